"""A network's first layer as an extractor of features: AlexNet's (the paper's), SqueezeNet's, or a recipe's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dakit.data.sets import file_digests
from dakit.errors import DakitError
from dakit.interfaces import Classifier, File, ImageSet, Observer
from dakit.optional import HasStem, WeightsFile, offers
from dakit.training.fetching import digest_in, download
from dakit.training.weights import named_file, read_weights

Extract = Callable[[Tensor], Tensor]


class _FirstLayer(NamedTuple):
    title: str
    shape: tuple[int, int, int, int]
    stride: int
    padding: int
    prepare: Extract


def _alexnet_input(pixels: Tensor) -> Tensor:
    mean = pixels.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = pixels.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return pixels.div_(255).sub_(mean).div_(deviation)


def _squeezenet_input(pixels: Tensor) -> Tensor:
    return pixels.flip(1).sub_(pixels.new_tensor([104.0, 117.0, 123.0]).view(3, 1, 1))


_FIRST_LAYERS: Mapping[str, _FirstLayer] = {
    "alexnet": _FirstLayer("AlexNet", (64, 3, 11, 11), 4, 2, _alexnet_input),
    "squeezenet": _FirstLayer("SqueezeNet 1.0", (96, 3, 7, 7), 2, 0, _squeezenet_input),
}
_ALEXNET_FILE = "alexnet-owt-7be5be79.pth"


def check_weights(extractor: str, otherwise: str, weights: File | None) -> None:
    """Refuse parameters that contradict each other.

    Raises:
        DakitError: they do.
    """
    if otherwise != "none" and extractor != "alexnet":
        raise DakitError(f'otherwise: "{otherwise}" stands in for "alexnet" only, but extractor is "{extractor}"')
    if "squeezenet" in (extractor, otherwise) and weights is None:
        raise DakitError('weights: "squeezenet" needs the file of its weights (.safetensors or .pth)')
    if extractor == "classifier" and weights is not None:
        raise DakitError(f'weights: extractor "classifier" reads no file, but there is {weights}')


def find_extractor(extractor: str, otherwise: str, weights: File | None) -> tuple[str, Path | None]:
    """The extractor to use on this machine, and the file of its weights."""
    if extractor == "alexnet":
        given_weights = weights is not None and otherwise != "squeezenet"
        file = weights.path if weights and given_weights else Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET_FILE
        if file.is_file() or otherwise == "none":
            return "alexnet", file
        extractor = otherwise
    return extractor, weights.path if weights and extractor == "squeezenet" else None


def extractor_identity(params: Mapping[str, Any]) -> dict[str, Any]:
    """Which extractor is used on this machine, and the content of its weights."""
    used, file = find_extractor(params["extractor"], params["otherwise"], params["weights"])
    return {"extractor": used, "weights": file_digests([file])[0] if file and file.is_file() else None}


def extractor_weights(params: Mapping[str, Any]) -> list[WeightsFile]:
    """The files that the extractor reads, also those in whose absence ``otherwise`` stands in."""
    files = []
    weights = params["weights"]
    if params["extractor"] == "alexnet":
        if weights is not None and params["otherwise"] != "squeezenet":
            files.append(named_file(File(weights), "alexnet"))
        else:
            entry, place = _alexnet()
            there = place.is_file()
            size = place.stat().st_size if there else int(entry.meta.get("_file_size", 0) * 2**20) or None
            files.append(WeightsFile(place.name, f"alexnet {entry.name}", place, there, size, "", "torchvision"))
    if weights is not None and "squeezenet" in (params["extractor"], params["otherwise"]):
        files.append(named_file(File(weights), "squeezenet1_0"))
    return files


def fetch_extractor(observers: Sequence[Observer], params: Mapping[str, Any]) -> None:
    """Torchvision's file of AlexNet, where that is what the extractor reads."""
    if any(file.fetched_by for file in extractor_weights(params)):
        entry, place = _alexnet()
        download(entry.url, place, digest=digest_in(place.name), observers=observers)


def _alexnet() -> tuple[Any, Path]:
    """Torchvision's entry for AlexNet's weights, and where their file lies or would lie."""
    import torchvision

    return torchvision.models.get_model_weights("alexnet").DEFAULT, (
        Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET_FILE
    )


def extractor_note(extractor: str, used: str, file: Path | None) -> str:
    """Which features are used, and why not those that were asked for."""
    what = (
        f"the first layer of an ImageNet {_FIRST_LAYERS[used].title} ({file.name})"
        if file
        else "the stem of the recipe's own classifier"
    )
    missing = "" if used == extractor else f", because AlexNet's weights ({_ALEXNET_FILE}) are not on this machine"
    return f"features: {what}{missing}"


def check_sizes(*sets: ImageSet, feature_size: int | None) -> None:
    """Refuse sets of different sizes where nothing brings them to one.

    Raises:
        DakitError: they differ.
    """
    sizes = {tuple(images[0].image.shape[1:]) for images in sets if len(images)}
    if feature_size is None and len(sizes) > 1:
        raise DakitError(f"the images have different sizes, {sorted(sizes)}: set feature_size to bring them to one")


def first_layer(
    used: str, file: Path | None, classifier: Classifier | None, device: torch.device, size: int | None
) -> Extract:
    """A function from uint8 ``(b, 3, H, W)`` to the first layer's ``(b, C, H', W')``, before any ReLU."""
    if file is None:
        if not offers(classifier, HasStem):
            raise DakitError(
                'extractor: "classifier" needs a trained classifier '
                + ("and none is passed" if classifier is None else f"with a stem; {type(classifier).__name__} has none")
            )

        def layer(pixels: Tensor) -> Tensor:
            return classifier.stem(pixels / 127.5 - 1)

    else:
        first = _FIRST_LAYERS[used]
        weight, bias = (tensor.to(device) for tensor in _load(file, first))

        def layer(pixels: Tensor) -> Tensor:
            return functional.conv2d(first.prepare(pixels), weight, bias, first.stride, first.padding)

    def extract(images: Tensor) -> Tensor:
        pixels = images.float()
        if size is not None:
            pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return layer(pixels)

    return extract


def _load(file: Path, first: _FirstLayer) -> tuple[Tensor, Tensor]:
    """Weight and bias of a first layer.

    Raises:
        DakitError: the file is missing, cannot be read, or holds another network.
    """
    if not file.is_file():
        raise DakitError(
            f"{first.title}'s ImageNet weights are not on this machine: there is no {file}. "
            + (
                f"Ask for torchvision's {_ALEXNET_FILE} with --fetch (`dakit run`, `dakit weights`), bring it"
                if first.title == "AlexNet"
                else "Bring the file"
            )
            + " there, name another file as weights, or use other features: as extractor (or otherwise) "
            '"classifier", the stem of the recipe\'s own classifier, or "squeezenet" with its file as weights'
        )
    state = read_weights(file)
    try:
        weight, bias = state["features.0.weight"].float(), state["features.0.bias"].float()
    except KeyError as error:
        raise DakitError(f"{file}: no {error} in it, so not the weights of {first.title}") from error
    if weight.shape != first.shape:
        raise DakitError(
            f"{file}: the first layer is {tuple(weight.shape)}, but that of {first.title} is {first.shape}"
        )
    return weight, bias
