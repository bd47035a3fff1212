"""Any convolutional network of timm as a classifier with maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dakit.data.sets import file_digests
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import File, Prediction, restored
from dakit.parameters import checked
from dakit.training.weights import load_weights, read_weights


@checked
class TimmClassifier(nn.Module):
    """A convolutional network of timm, such as ResNet-18, -50 or -101.

    Images are float ``(B, 3, H, W)`` in [-1, 1]. Of the :class:`~dakit.interfaces.Prediction`, ``features``
    is ``(B, D)``, what the last linear layer reads, and ``maps`` are the last map at each stride from 4 on,
    in a ResNet those of layer1 to layer4. One forward pass yields all. The maps of ResNets (v1 and their
    kin: ResNeXt, SE-ResNet, RegNet) come after ReLU and are non-negative; those of many others, such as
    EfficientNet and ConvNeXt, are not.

    Without pretrained weights the network sees the images as they are. With them, images are first brought
    to the mean and standard deviation that timm states for the weights of ``arch``.

    Args:
        classes: number of logits.
        arch: timm's name of the network, with a tag ("resnet50.a1_in1k") or without.
        weights: "none", "default" (timm's for ``arch``; the file must be here already, nothing is
            downloaded) or a state dict with timm's names, safetensors or ``torch.save``. A head of another
            number of classes stays untrained; any other difference is an error.
        initialisation: "default" is timm's; "normal_002" draws every weight of a convolution or linear layer
            from N(0, 0.02) and sets biases to 0 (CycleAT, section 4.2).
        small_images: for images of 32 to 64 pixels: a ResNet's first convolution becomes 3x3 with stride 1
            and its max-pool goes, so all maps are four times as high and wide.

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
    ) -> None:
        import timm

        super().__init__()
        if weights != "none" and initialisation != "default":
            raise DakitError(f"timm: initialisation {initialisation} would overwrite the weights {weights}")
        if weights == "default" and small_images:
            raise DakitError("timm: small_images changes the first convolution, so weights cannot be default")
        if not timm.is_model(arch):
            name = arch.partition(".")[0]
            raise DakitError(f'timm has no network "{arch}"{did_you_mean(name, timm.list_models())}')
        pretrained: dict[str, Any] = {}
        if weights == "default" and not restored():
            file = _default_file(arch)
            read_weights(file)  # older timm would run what a pickle holds
            pretrained = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
        try:
            network: Any = timm.create_model(arch, num_classes=classes, **pretrained)
        except RuntimeError as error:  # a tag that does not exist, a default file that is another network's
            raise DakitError(f"timm cannot make {arch}: {error}") from error

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

        last = network.get_classifier()
        if not isinstance(last, (nn.Linear, nn.Conv2d)):
            raise DakitError(f"timm: the head of {arch} is a {type(last).__name__}, not one linear layer")
        if weights not in ("none", "default"):
            head = next(name for name, module in network.named_modules() if module is last)
            load_weights(network, File(weights).path, head=head, arch=arch)
        # The head moves out of the network, so that features end there in every architecture; in some it is
        # a 1x1 convolution over the pooled map, which is the same thing.
        self.head = nn.Linear(last.weight.shape[1], classes, bias=last.bias is not None)
        self.head.load_state_dict(
            {name: value.flatten(1) if value.ndim > 1 else value for name, value in last.state_dict().items()}
        )
        network.reset_classifier(0)
        self.network: Any = network
        # Known of these alone; other networks may end their stages otherwise.
        self.rectified = isinstance(network, timm.models.ResNet) and isinstance(network.act1, nn.ReLU)

        if initialisation == "normal_002":
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.normal_(module.weight, 0.0, 0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

        # From [-1, 1]: (x / 2 + 1 / 2 - mean) / std, as one difference and one quotient.
        if weights == "none":
            mean = std = None
        else:
            mean = 2 * torch.tensor(network.pretrained_cfg["mean"]).view(1, 3, 1, 1) - 1
            std = 2 * torch.tensor(network.pretrained_cfg["std"]).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
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
        """Classify a batch."""
        last, maps = self.network.forward_intermediates(self._normalise(images), indices=self.stages)
        features = self.network.forward_head(last, pre_logits=True).flatten(1)
        return Prediction(self.head(features), features, tuple(maps), self.rectified)

    def _normalise(self, images: Tensor) -> Tensor:
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std

    @staticmethod
    def identity(*, arch: str, weights: str, **_: Any) -> dict[str, str]:
        """The content of the default weights, which a recipe does not name: a part of every key."""
        return {"default": file_digests([_default_file(arch)])[0]} if weights == "default" else {}


def _default_file(arch: str) -> Path:
    """Where timm's weights for ``arch`` lie on this machine.

    Raises:
        DakitError: nowhere; the message names the file and the place.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(arch, allow_unregistered=True)
    if config is None or not config.has_weights:
        raise DakitError(f"timm has no pretrained weights for {arch}: set weights to none or to a file")
    tagged = ".".join(filter(None, (config.architecture, config.tag)))
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    places = [checkpoints / f"{tagged}.safetensors"]
    if config.url:
        places.append(checkpoints / Path(str(config.url)).name)
    if config.hf_hub_id:
        names = (config.hf_hub_filename or "model.safetensors", "pytorch_model.bin")
        cached = [try_to_load_from_cache(config.hf_hub_id, name) for name in names]
        places += [Path(place) for place in cached if isinstance(place, str)]
    for place in places:
        if place.is_file():
            return place
    raise DakitError(
        f"the pretrained weights of {arch} are not on this machine, and nothing is downloaded unasked: bring "
        f'the file model.safetensors of "{config.hf_hub_id or tagged}" and put it at {places[0]}, '
        "or set weights to its path"
    )
