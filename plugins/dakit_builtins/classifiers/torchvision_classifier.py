"""AlexNet and VGG-19, the plain networks of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import File, Observer, Prediction, restored
from dakit.optional import WeightsFile
from dakit.parameters import checked
from dakit.training.fetching import digest_in, download
from dakit.training.weights import load_weights, named_file

# Below this size in pixels a max-pool is left without input.
_SMALLEST = {"alexnet": 63, "vgg19": 32}


@checked
class TorchvisionClassifier(nn.Module):
    """AlexNet (the one-column version) or VGG-19, as torchvision builds them.

    Images are float ``(B, 3, H, W)`` in [-1, 1]; H and W are at least 63 for AlexNet and 32 for VGG-19, for
    an adaptive mean pool stands before the linear layers. Of the :class:`~dakit.interfaces.Prediction`,
    ``features`` is ``(B, 4096)``, what the last linear layer reads, and ``maps`` are the outputs before each
    max-pool, three for AlexNet and five for VGG-19. All come after ReLU and are non-negative.

    Without pretrained weights the network sees the images as they are; with them, images are first brought
    to ImageNet's mean and standard deviation.

    Sources: Krizhevsky, *One weird trick for parallelizing convolutional neural networks*, arXiv 1404.5997;
    Simonyan and Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015,
    configuration E.

    Args:
        classes: number of logits.
        arch: "alexnet" or "vgg19".
        weights: "none", "default" (torchvision's ImageNet weights; the file must be here already, or be asked for
            with ``--fetch``) or a state dict with torchvision's names, safetensors or ``torch.save``. A head of
            another number of classes stays untrained; any other difference is an error.
        initialisation: "default" is torchvision's; "normal_002" draws every weight of a convolution or
            linear layer from N(0, 0.02) and sets biases to 0 (CycleAT, section 4.2).

    Raises:
        DakitError: weights that are absent or do not fit, weights together with an initialisation, or (when
            called) images that are too small.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        classes: int,
        *,
        arch: Literal["alexnet", "vgg19"],
        weights: Literal["none", "default"] | File = "none",
        initialisation: Literal["default", "normal_002"] = "default",
    ) -> None:
        import torchvision

        super().__init__()
        if weights != "none" and initialisation != "default":
            raise DakitError(f"torchvision: initialisation {initialisation} would overwrite the weights {weights}")
        self.network = torchvision.models.get_model(arch, weights=None, num_classes=classes)
        if weights != "none" and not restored():
            file = _default_file(arch) if weights == "default" else File(weights).path
            load_weights(self.network, file, head="classifier.6", arch=arch)
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
            mean = 2 * torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) - 1
            std = 2 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.arch = arch

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        last: nn.Linear = self.network.classifier[-1]
        return last

    def stem(self, images: Tensor) -> Tensor:
        """The output of the first convolution."""
        first: Tensor = self.network.features[0](self._normalise(images))
        return first

    def forward(self, images: Tensor) -> Prediction:
        """Classify a batch."""
        height, width = images.shape[-2:]
        smallest = _SMALLEST[self.arch]
        if min(height, width) < smallest:
            raise DakitError(
                f"{self.arch} needs images of at least {smallest} x {smallest} pixels, not {height} x {width}"
            )
        x = self._normalise(images)
        maps = []
        for layer in self.network.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        features = self.network.classifier[:-1](self.network.avgpool(x).flatten(1))
        return Prediction(self.head(features), features, tuple(maps), rectified=True)

    def _normalise(self, images: Tensor) -> Tensor:
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std

    @staticmethod
    def weights_needed(*, arch: str, weights: str, **_: Any) -> list[WeightsFile]:
        """The file that it starts from."""
        if weights == "none":
            return []
        if weights != "default":
            return [named_file(File(weights), arch)]
        entry, place = _default(arch)
        megabytes = entry.meta.get("_file_size")
        size = place.stat().st_size if place.is_file() else megabytes and int(megabytes * 2**20)
        name = f"{arch} {entry.name}"
        return [WeightsFile(place.name, name, place, place.is_file(), size, "", "torchvision")]

    @staticmethod
    def fetch_weights(observers: Sequence[Observer], /, *, arch: str, weights: str, **_: Any) -> None:
        """Torchvision's file, whose name holds the beginning of its SHA-256."""
        if weights == "default":
            entry, place = _default(arch)
            download(entry.url, place, digest=digest_in(place.name), observers=observers)


def _default(arch: str) -> tuple[Any, Path]:
    """Torchvision's entry for the weights, and where their file lies or would lie."""
    import torchvision

    entry = torchvision.models.get_model_weights(arch).DEFAULT
    return entry, Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]


def _default_file(arch: str) -> Path:
    """Where torchvision's weights for ``arch`` lie on this machine.

    Raises:
        DakitError: nowhere; the message names the file and the place.
    """
    _, place = _default(arch)
    if not place.is_file():
        raise DakitError(
            f"the pretrained weights of {arch} are not on this machine, and nothing is downloaded unasked: "
            f"ask with --fetch (`dakit run`, `dakit weights`), bring torchvision's file {place.name} and put it at "
            f"{place}, or set weights to its path"
        )
    return place
