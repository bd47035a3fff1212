from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dakit.errors import DakitError
from dakit.interfaces import File, Prediction
from dakit_builtins.classifiers.torchvision_classifier import TorchvisionClassifier

SMALLEST = {"alexnet": 63, "vgg19": 32}


@pytest.fixture(scope="module", params=["alexnet", "vgg19"])
def network(request: pytest.FixtureRequest) -> TorchvisionClassifier:
    torch.manual_seed(0)
    return TorchvisionClassifier(7, arch=request.param).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 70, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_one_forward_gives_torchvisions_logits_and_maps(network: TorchvisionClassifier, images: torch.Tensor) -> None:
    before_pools: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: before_pools.append(inputs[0].clone()))
        for layer in network.network.features
        if isinstance(layer, nn.MaxPool2d)
    ]
    with torch.no_grad():
        prediction = network(images)
        passes = len(before_pools) // len(hooks)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(prediction.logits, network.network(images))
        torch.testing.assert_close(network.head(prediction.features), prediction.logits)
    assert passes == 1
    assert prediction.logits.shape == (2, 7)
    assert prediction.features.shape == (2, 4096)
    torch.testing.assert_close(prediction.maps, tuple(before_pools), rtol=0, atol=0)
    assert all((m >= 0).all() for m in prediction.maps)
    sizes = {
        "alexnet": [(64, 15, 16), (192, 7, 7), (256, 3, 3)],
        "vgg19": [(64, 64, 70), (128, 32, 35), (256, 16, 17), (512, 8, 8), (512, 4, 4)],
    }
    assert [tuple(m.shape[1:]) for m in prediction.maps] == sizes[network.arch]


def test_smallest_image(network: TorchvisionClassifier) -> None:
    smallest = SMALLEST[network.arch]
    with torch.no_grad():
        assert network(torch.zeros(1, 3, smallest, smallest)).logits.isfinite().all()
        with pytest.raises(DakitError, match=f"at least {smallest} x {smallest} .* 80 x {smallest - 1}"):
            network(torch.zeros(1, 3, 80, smallest - 1))
        # The bound is no stricter than the network itself.
        with pytest.raises(RuntimeError, match="Output size is too small"):
            network.network(torch.zeros(1, 3, 80, smallest - 1))


@pytest.mark.parametrize(("arch", "millions"), [("alexnet", 61.101), ("vgg19", 143.667)])
def test_published_size(arch: Any, millions: float) -> None:
    with torch.device("meta"):
        network = TorchvisionClassifier(1000, arch=arch)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)


def test_stem_is_the_first_convolution(network: TorchvisionClassifier, images: torch.Tensor) -> None:
    first = network.network.features[0]
    stride, padding = {"alexnet": (4, 2), "vgg19": (1, 1)}[network.arch]
    expected = nn.functional.conv2d(images, first.weight, first.bias, stride=stride, padding=padding)
    torch.testing.assert_close(network.stem(images), expected)


def test_weights_and_their_normalisation(images: torch.Tensor, tmp_path: Path) -> None:
    """One 230 MB file serves four checks: its head is of another size, its images are ImageNet's."""
    torch.manual_seed(0)
    theirs = TorchvisionClassifier(5, arch="alexnet").network.eval()
    state = theirs.state_dict()
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    ours = TorchvisionClassifier(7, arch="alexnet", weights=File(file)).eval()
    seen = (images + 1) / 2
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        seen[:, channel] = (seen[:, channel] - mean) / std
    with torch.no_grad():
        prediction: Prediction = ours(images)
        expected = theirs.classifier[:-1](theirs.avgpool(theirs.features(seen)).flatten(1))
    torch.testing.assert_close(prediction.features, expected, rtol=1e-4, atol=1e-5)
    assert prediction.logits.shape == (2, 7)
    with (
        torch.device("meta"),
        pytest.raises(DakitError, match=r"do not fit vgg19: \d+ entries beside"),
    ):
        TorchvisionClassifier(5, arch="vgg19", weights=File(file))
    file.write_bytes(b"not weights at all")
    with torch.device("meta"), pytest.raises(DakitError, match="cannot be read as a state dict"):
        TorchvisionClassifier(5, arch="alexnet", weights=File(file))


def test_default_weights_are_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    with torch.device("meta"), pytest.raises(DakitError, match="nothing is downloaded unasked") as caught:
        TorchvisionClassifier(7, arch="alexnet", weights="default")
    assert str(place) in str(caught.value)
    # What lies there is what is read.
    place.parent.mkdir(parents=True)
    torch.save({"features.0.bias": torch.zeros(3)}, place)
    with torch.device("meta"), pytest.raises(DakitError, match=r"features.0.bias: \(3,\), expected \(64,\)"):
        TorchvisionClassifier(7, arch="alexnet", weights="default")


def test_initialisation_normal_002() -> None:
    torch.manual_seed(0)
    network = TorchvisionClassifier(7, arch="alexnet", initialisation="normal_002")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.weight.std().item() == pytest.approx(0.02, rel=5 / module.weight.numel() ** 0.5)
            assert not module.bias.any()
    with pytest.raises(DakitError, match="normal_002 would overwrite the weights"):
        TorchvisionClassifier(7, arch="alexnet", weights="default", initialisation="normal_002")
