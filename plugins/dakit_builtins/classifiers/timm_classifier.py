"""Any network of timm as a classifier with maps.

It is one thing: how a network is made, asked, started from weights and written again, all in timm's own terms.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dakit.data.sets import file_digests
from dakit.errors import DakitError, did_you_mean
from dakit.files import write_text
from dakit.interfaces import File, Observer, Positive, Prediction, restored
from dakit.optional import Exported, WeightsFile, Write
from dakit.parameters import checked
from dakit.training.fetching import digest_in, download
from dakit.training.weights import load_weights, named_file, read_weights

_FILE = "model.safetensors"
Channels = tuple[float, float, float]


@checked
class TimmClassifier(nn.Module):
    """A network of timm: ResNet, EfficientNet, ConvNeXt, ViT, DINOv2 and v3, CLIP, DeiT, Swin and most others.

    Images are float ``(B, 3, H, W)`` in [-1, 1]. Of the :class:`~dakit.interfaces.Prediction`, ``features``
    is ``(B, D)``, what the last linear layer reads, and ``maps`` are the last map at each stride from 4 on,
    in a ResNet those of layer1 to layer4. One forward pass yields all. The maps of ResNets (v1 and their
    kin: ResNeXt, SE-ResNet, RegNet) come after ReLU and are non-negative; those of many others, such as
    EfficientNet and ConvNeXt, are not. The map of a ViT is its last block's tokens at their places,
    ``(B, D, H / p, W / p)`` for patches of p pixels, without class and register tokens; in a DeiT with a distillation
    token, ``features`` are class and distillation token, ``(B, 2 D)``, and the head is the mean of timm's two.

    Images need not have the size that a network was trained at. Convolutions take any; transformers for which timm
    offers it interpolate their position embeddings to the images at hand (bicubic, timm's own), and images whose
    sides are no multiple of a patch are filled up with zeros. Others (BEiT, Mixer, MaxViT, LeViT's kin) are built for
    one size, which ``size`` names.

    Without pretrained weights the network sees the images as they are. With them, images are first brought
    to the mean and standard deviation that timm states for the weights of ``arch``, or that are given.

    Args:
        classes: number of logits.
        arch: timm's name of the network, with a tag ("resnet50.a1_in1k") or without.
        weights: "none", "default" (timm's for ``arch``; the file must be here already, or be asked for
            with ``--fetch``) or a state dict with timm's names, safetensors or ``torch.save``. A head of another
            number of classes stays untrained, position embeddings of another size are interpolated; any other
            difference is an error.
        initialisation: "default" is timm's; "normal_002" draws every weight of a convolution or linear layer
            from N(0, 0.02) and sets biases to 0 (CycleAT, section 4.2).
        small_images: for images of 32 to 64 pixels: a ResNet's first convolution becomes 3x3 with stride 1
            and its max-pool goes, so all maps are four times as high and wide.
        mean: of each colour, for values from 0 to 1; None = timm's for the weights, and 0.5 without any.
        std: the standard deviation, likewise.
        size: height and width in pixels to build the network for; it then takes no other. None = timm's size, and any
            other where the network can.

    Raises:
        DakitError: no such network, no way to its stages or head, weights that are absent or do not fit, or
            parameters that exclude each other.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        classes: int,
        *,
        arch: str = "resnet50",
        weights: Literal["none", "default"] | File = "none",
        initialisation: Literal["default", "normal_002"] = "default",
        small_images: bool = False,
        mean: Channels | None = None,
        std: Channels | None = None,
        size: Positive | None = None,
    ) -> None:
        import timm

        super().__init__()
        if weights != "none" and initialisation != "default":
            raise DakitError(f"timm: initialisation {initialisation} would overwrite the weights {weights}")
        if weights == "default" and small_images:
            raise DakitError("timm: small_images changes the first convolution, so weights cannot be default")
        if std is not None and min(std) <= 0:
            raise DakitError(f"timm: std: expected three positive numbers, not {list(std)}")
        if not timm.is_model(arch):
            name = arch.partition(".")[0]
            raise DakitError(f'timm has no network "{arch}"{did_you_mean(name, timm.list_models())}')
        pretrained: dict[str, Any] = {}
        if weights == "default" and not restored():
            file = _default_file(arch)
            read_weights(file)  # older timm would run what a pickle holds
            pretrained = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
        network, self.options = _created(arch, size, num_classes=classes, **pretrained)

        last_of_stride = {info["reduction"]: index for index, info in enumerate(network.feature_info)}
        self.stages = [index for stride, index in sorted(last_of_stride.items()) if stride >= 4]
        if not hasattr(network, "forward_intermediates") or not self.stages:
            raise DakitError(f"timm: the stages of {arch} cannot be read (it has no forward_intermediates)")

        if small_images:
            first = getattr(network, "conv1", None)
            if not isinstance(first, nn.Conv2d) or not hasattr(network, "maxpool"):
                raise DakitError(
                    f"timm: small_images is for ResNets with a first convolution and a max-pool, not {arch}"
                )
            network.conv1 = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
            network.maxpool = nn.Identity()
        self.small_images = small_images

        heads = _heads(network, arch)
        if weights not in ("none", "default"):
            load_weights(
                network, File(weights).path, head=tuple(heads), arch=arch, adapt=lambda state: _adapted(state, network)
            )
        self.head = _joined(list(heads.values()), classes)
        self.pair = len(heads) == 2
        network.reset_classifier(0)
        self.network: Any = network
        # Known of these alone; other networks may end their stages otherwise.
        self.rectified = isinstance(network, timm.models.ResNet) and isinstance(network.act1, nn.ReLU)
        # What the network is built for where it takes no other: height and width.
        fixed = self.options.get("img_size") or (
            network.pretrained_cfg["input_size"][1]
            if not self.options and network.pretrained_cfg.get("fixed_input_size")
            else None
        )
        self.fixed: int | None = fixed

        if initialisation == "normal_002":
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.normal_(module.weight, 0.0, 0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

        config = network.pretrained_cfg
        usual = ((0.5,) * 3, (0.5,) * 3) if weights == "none" else (config["mean"], config["std"])
        self.colours = tuple(mean or usual[0]), tuple(std or usual[1])
        # From [-1, 1]: (x / 2 + 1 / 2 - mean) / std, as one difference and one quotient.
        shift = scale = None
        if weights != "none" or mean is not None or std is not None:
            shift = 2 * torch.tensor(self.colours[0]).view(1, 3, 1, 1) - 1
            scale = 2 * torch.tensor(self.colours[1]).view(1, 3, 1, 1)
        self.register_buffer("mean", shift, persistent=False)
        self.register_buffer("std", scale, persistent=False)
        self.arch = arch

    def stem(self, images: Tensor) -> Tensor:
        """The output of the first convolution.

        Raises:
            DakitError: timm does not say which that is.
        """
        name = self.network.pretrained_cfg["first_conv"]
        if not isinstance(name, str):
            raise DakitError(f"timm: {self.arch} has no single first convolution")
        first: Tensor = self.network.get_submodule(name)(self._normalise(images))
        return first

    def forward(self, images: Tensor) -> Prediction:
        """Classify a batch.

        Raises:
            DakitError: the network is built for images of another size.
        """
        height, width = images.shape[-2:]
        if self.fixed is not None and (height, width) != (self.fixed, self.fixed):
            raise DakitError(
                f"timm: {self.arch} is built for images of {self.fixed} x {self.fixed} pixels, not {height} x {width}"
                + (f"; size: {height} builds it for those" if height == width else "")
            )
        last, maps = self.network.forward_intermediates(self._normalise(images), indices=self.stages)
        if self.pair:
            features = last[:, :2].flatten(1)
        else:
            features = self.network.forward_head(last, pre_logits=True).flatten(1)
        return Prediction(self.head(features), features, tuple(maps), self.rectified)

    def formats(self) -> dict[str, Write]:
        """As a checkpoint of timm: see :meth:`_write`."""
        return {"timm": self._write}

    def _write(self, folder: Path, classes: tuple[str, ...], size: int) -> Exported:
        """``model.safetensors`` under timm's names, and ``config.json`` as timm's hub has it.

        Raises:
            DakitError: timm has no network of this shape.
        """
        import timm
        from safetensors.torch import save_file

        if self.small_images:
            raise DakitError(f"timm: small_images makes another {self.arch} than timm's, which timm cannot read")
        arguments: dict[str, Any] = {"num_classes": len(classes), **self.options}
        theirs: Any = timm.create_model(self.arch, **arguments)
        state = self.network.state_dict()
        heads = _heads(theirs, self.arch)
        for number, (place, head) in enumerate(heads.items()):  # of a DeiT's two, each on a half of the features
            columns = self.head.weight.shape[1] // len(heads)
            weight = len(heads) * self.head.weight[:, number * columns : (number + 1) * columns]
            state[f"{place}.weight"] = weight.reshape(head.weight.shape)
            if head.bias is not None:
                state[f"{place}.bias"] = self.head.bias
        theirs.load_state_dict(state)
        save_file({name: value.contiguous() for name, value in theirs.state_dict().items()}, folder / _FILE)
        mean, std = map(list, self.colours)
        config = theirs.pretrained_cfg
        name = str(config["architecture"])
        about = {
            "architecture": name,
            "num_classes": len(classes),
            "num_features": theirs.num_features,
            "label_names": list(classes),
            # Without its registered size, which input_size stands in place of, timm would build it for another.
            "model_args": {"img_size": config["input_size"][1], **self.options}
            if config.get("fixed_input_size")
            else self.options,
            "pretrained_cfg": {
                "custom_load": False,
                "input_size": [3, size, size],
                "fixed_input_size": self.fixed is not None,
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": mean,
                "std": std,
                "num_classes": len(classes),
                "first_conv": config["first_conv"],
                "classifier": config["classifier"],
            },
        }
        write_text(folder / "config.json", json.dumps(about, indent=1) + "\n")
        settings = "".join(f", {key}={value}" for key, value in arguments.items())
        code = "\n".join(
            [
                "import timm",
                "",
                f"classes = {list(classes)!r}",
                f'model = timm.create_model("{name}", checkpoint_path="{_FILE}"{settings}).eval()',
                f"mean, std = (torch.tensor(one).view(3, 1, 1) for one in ({mean}, {std}))",
                "",
                "",
                "def probabilities(images):",
                "    return model((images / 255 - mean) / std).softmax(1)",
            ]
        )
        takes = (
            f"`{_FILE}` holds the weights of timm's `{name}` under timm's names. timm's "
            f"network takes float RGB `(batch, 3, {size}, {size})`, from 0 to 1 less mean {mean} over std {std}, and "
            f"gives logits `(batch, {len(classes)})` in the order of the classes above. `config.json` says the same "
            'for `timm.create_model("local-dir:FOLDER", pretrained=True)`.'
        )
        again: Any = timm.create_model(name, checkpoint_path=str(folder / _FILE), **arguments).eval()
        shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        return Exported(_FILE, takes, code, lambda images: again((images / 255 - shift) / scale).float().softmax(1))

    def _normalise(self, images: Tensor) -> Tensor:
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std

    @staticmethod
    def identity(*, arch: str, weights: str, **_: Any) -> dict[str, str]:
        """The content of the default weights, which a recipe does not name: a part of every key."""
        return {"default": file_digests([_default_file(arch)])[0]} if weights == "default" else {}

    @staticmethod
    def weights_needed(*, arch: str, weights: str, **_: Any) -> list[WeightsFile]:
        """The file that it starts from."""
        if weights == "none":
            return []
        if weights != "default":
            return [named_file(File(weights), arch)]
        config, places = _places(arch)
        local = next((place for place in places if place.is_file()), None)
        name = _tagged(config)
        if local is not None:
            return [WeightsFile(local.name, name, local, True, local.stat().st_size, config.license or "", "timm")]
        if config.hf_hub_id:
            from huggingface_hub import constants, file_download

            folder = file_download.repo_folder_name(repo_id=config.hf_hub_id, repo_type="model")
            place, file = Path(constants.HF_HUB_CACHE) / folder, config.hf_hub_filename or "model.safetensors"
        else:
            place, file = places[-1], places[-1].name
        return [WeightsFile(file, name, place, False, _bytes(arch), config.license or "", "timm")]

    @staticmethod
    def fetch_weights(observers: Sequence[Observer], /, *, arch: str, weights: str, **_: Any) -> None:
        """From timm's hub, into its cache; where timm has another address alone, into torch's.

        The hub's own SHA-256, which names the file in the cache, is compared with the content.
        """
        if weights != "default":
            return
        config, places = _places(arch)
        if config.hf_hub_id:
            _from_hub(config.hf_hub_id, (config.hf_hub_filename or "model.safetensors", "pytorch_model.bin"))
        else:
            download(config.url, places[-1], digest=digest_in(places[-1].name), observers=observers)


# What makes a transformer of timm take images of any size, best first; each family knows other ones.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


def _created(arch: str, size: int | None, **given: Any) -> tuple[Any, dict[str, Any]]:
    """The network, and the arguments beside ``given`` that made it.

    Raises:
        DakitError: timm cannot make it.
    """
    import timm

    drawn = torch.get_rng_state()
    for options in _ANY_SIZE if size is None else ({"img_size": size},):
        torch.set_rng_state(drawn)  # a refusal may come after weights were drawn
        try:
            return timm.create_model(arch, **options, **given), options
        except TypeError as error:  # an unknown argument
            if size is not None:
                raise DakitError(f"timm: {arch} takes images of any size: leave size out ({error})") from error
            if not options:
                raise
        except (RuntimeError, AssertionError) as error:  # no such tag, another network's file, a size that cannot be
            raise DakitError(f"timm cannot make {arch}: {error}") from error
    raise AssertionError


def _heads(network: Any, arch: str) -> dict[str, Any]:
    """The linear layers that give the logits, by name: one, or a DeiT's two.

    Raises:
        DakitError: the head is another thing.
    """
    import timm

    last = network.get_classifier()
    if isinstance(network, timm.models.deit.VisionTransformerDistilled):
        return {"head": last[0], "head_dist": last[1]}
    if not isinstance(last, (nn.Linear, nn.Conv2d)):
        raise DakitError(f"timm: the head of {arch} is a {type(last).__name__}, not one linear layer")
    return {next(name for name, module in network.named_modules() if module is last): last}


def _joined(heads: Sequence[nn.Linear | nn.Conv2d], classes: int) -> nn.Linear:
    """One linear layer that gives the mean of what the heads give, each of features of its own.

    The head moves out of the network, so that features end there in every architecture; in some it is
    a 1x1 convolution over the pooled map, which is the same thing.
    """
    bias = heads[0].bias is not None
    joined = nn.Linear(sum(head.weight.shape[1] for head in heads), classes, bias=bias)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([head.weight.flatten(1) for head in heads], 1) / len(heads))
        if bias:
            joined.bias.copy_(torch.stack([head.bias for head in heads if head.bias is not None]).mean(0))
    return joined


def _adapted(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of the same network at another size, by timm's own function of that family, where it has one."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return state if convert is None else dict(convert(dict(state), network))


def _tagged(config: Any) -> str:
    """A network with its weights, as timm calls them."""
    return ".".join(filter(None, (config.architecture, config.tag)))


def _places(arch: str) -> tuple[Any, list[Path]]:
    """Timm's entry for the weights of ``arch``, and where their file may lie on this machine.

    Raises:
        DakitError: timm has no weights for it.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(arch, allow_unregistered=True)
    if config is None or not config.has_weights:
        raise DakitError(f"timm has no pretrained weights for {arch}: set weights to none or to a file")
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    places = [checkpoints / f"{_tagged(config)}.safetensors"]
    if config.url:
        places.append(checkpoints / Path(str(config.url)).name)
    if config.hf_hub_id:
        names = (config.hf_hub_filename or "model.safetensors", "pytorch_model.bin")
        cached = [try_to_load_from_cache(config.hf_hub_id, name) for name in names]
        places += [Path(place) for place in cached if isinstance(place, str)]
    return config, places


def _default_file(arch: str) -> Path:
    """Where timm's weights for ``arch`` lie on this machine.

    Raises:
        DakitError: nowhere; the message names the file and the place.
    """
    config, places = _places(arch)
    for place in places:
        if place.is_file():
            return place
    raise DakitError(
        f"the pretrained weights of {arch} are not on this machine, and nothing is downloaded unasked: ask with "
        "--fetch (`dakit run`, `dakit weights`), bring the file model.safetensors of "
        f'"{config.hf_hub_id or _tagged(config)}" and put it at {places[0]}, or set weights to its path'
    )


def _bytes(arch: str) -> int | None:
    """How large the weights are in fp32; None where timm cannot make the network without memory."""
    try:
        with torch.device("meta"):
            network, _ = _created(arch, None)
    except (RuntimeError, NotImplementedError, DakitError):
        return None
    return sum(int(value.numel()) * int(value.element_size()) for value in network.state_dict().values())


def _from_hub(repository: str, names: Sequence[str]) -> None:
    """Fetch the first of some files that a repository of the hub has, by its own client.

    Raises:
        DakitError: it has none, cannot be reached or may not be, or another content came than it said.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            file = Path(hf_hub_download(repository, name))
        except Exception as error:  # of the client, of the HTTP library below it, of the disk
            absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            if absent and name != names[-1]:
                continue
            why = next(iter(str(error).strip().splitlines()), "")
            raise DakitError(f"the weights of {repository} cannot be fetched: {type(error).__name__}: {why}") from error
        blob = file.resolve()
        if len(blob.name) == 64:  # a SHA-256, not the shorter digest of a small file
            with open(blob, "rb") as content:
                content_hash = hashlib.file_digest(content, "sha256").hexdigest()
            if content_hash != blob.name:
                file.unlink()
                blob.unlink(missing_ok=True)
                raise DakitError(
                    f"{repository}, {name}: another file than expected came: its SHA-256 begins "
                    f"{content_hash[:8]}, expected {blob.name[:8]}; it was thrown away"
                )
        return
