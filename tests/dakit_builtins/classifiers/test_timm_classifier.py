from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from dakit.errors import DakitError
from dakit.interfaces import File, Spec, Trained
from dakit_builtins.classifiers.timm_classifier import TimmClassifier

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # timm's for resnet10t


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def no_weights_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches; returns the folder in which torch keeps weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "dakit"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def reference(arch: str, classes: int) -> nn.Module:
    torch.manual_seed(5)
    return timm.create_model(arch, num_classes=classes).eval()


# A plain head, a head behind a layer, a 1x1 convolution as the head, and a stem outside the stages.
@pytest.mark.parametrize("arch", ["resnet10t", "mobilenetv3_small_050", "resnetv2_18", "convnext_atto"])
def test_one_forward_gives_timms_logits_and_maps(arch: str, images: torch.Tensor, tmp_path: Path) -> None:
    theirs = reference(arch, 7)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = TimmClassifier(7, arch=arch, weights=File(tmp_path / "weights.safetensors")).eval()
    mean, std = (torch.tensor(theirs.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    seen = (images / 2 + 0.5 - mean) / std
    with torch.no_grad():
        prediction = ours(images)
        torch.testing.assert_close(prediction.logits, theirs(seen), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.head(prediction.features), prediction.logits)
    assert [tuple(m.shape[2:]) for m in prediction.maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_maps_of_a_resnet_are_the_outputs_of_its_four_layers_after_relu(images: torch.Tensor) -> None:
    network = TimmClassifier(7, arch="resnet18").eval()
    outputs: list[torch.Tensor] = []
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        network.network.get_submodule(layer).register_forward_hook(lambda *a: outputs.append(a[2].clone()))
    with torch.no_grad():
        prediction = network(images)
    assert len(outputs) == 4  # one forward pass
    torch.testing.assert_close(prediction.maps, tuple(outputs), rtol=0, atol=0)
    assert all((m >= 0).all() for m in prediction.maps)
    torch.testing.assert_close(prediction.features, outputs[-1].mean((2, 3)))
    assert prediction.logits.shape == (2, 7)


def test_stem_is_the_first_convolution_and_untrained_networks_see_images_as_they_are(
    images: torch.Tensor,
) -> None:
    network = TimmClassifier(7, arch="resnet18")
    expected = nn.functional.conv2d(images, network.network.conv1.weight, stride=2, padding=3)
    torch.testing.assert_close(network.stem(images), expected)


def test_small_images_keep_their_resolution(images: torch.Tensor) -> None:
    network = TimmClassifier(7, arch="resnet18", small_images=True).eval()
    assert [tuple(m.shape[2:]) for m in network(images[..., :32, :32]).maps] == [
        (32, 32), (16, 16), (8, 8), (4, 4),
    ]  # fmt: skip
    assert network.stem(images).shape == (2, 64, 64, 96)


@pytest.mark.parametrize("arch", ["resnet10t", "convnext_atto"])
def test_small_images_need_a_plain_resnet(arch: str) -> None:
    with pytest.raises(DakitError, match=f"small_images is for ResNets .* not {arch}"):
        TimmClassifier(7, arch=arch, small_images=True)


def test_initialisation_normal_002() -> None:
    torch.manual_seed(0)
    network = TimmClassifier(7, arch="resnet18", initialisation="normal_002")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.weight.std().item() == pytest.approx(0.02, rel=5 / module.weight.numel() ** 0.5)
    assert not network.head.bias.any()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_of_another_number_of_classes_load_all_but_the_head(suffix: str, tmp_path: Path) -> None:
    theirs = reference("resnet10t", 5).state_dict()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": theirs}, path)
    else:
        save_file(theirs, path)
    ours = TimmClassifier(7, arch="resnet10t", weights=File(path))
    assert ours.head.weight.shape == (7, 512)
    loaded = ours.network.state_dict()
    assert set(loaded) == {name for name in theirs if not name.startswith("fc.")}
    assert all(torch.equal(loaded[name], theirs[name]) for name in loaded)


def test_weights_that_differ_elsewhere_are_refused(tmp_path: Path) -> None:
    state = reference("resnet10t", 7).state_dict()
    state["extra"] = torch.zeros(2)
    del state["bn1.bias"]
    state["layer1.0.bn1.weight"] = torch.ones(3)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(DakitError, match="do not fit resnet10t: 3 entries") as caught:
        TimmClassifier(7, arch="resnet10t", weights=File(tmp_path / "other.safetensors"))
    assert str(caught.value).splitlines()[1:] == [
        "  bn1.bias: missing, expected (64,)",
        "  layer1.0.bn1.weight: (3,), expected (64,)",
        "  extra: (2,), expected nothing",
    ]


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "absent.pth"])
def test_files_that_are_no_weights_are_refused(name: str, tmp_path: Path) -> None:
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(DakitError, match=f"{name}: cannot be read as a state dict"):
        TimmClassifier(7, arch="resnet10t", weights=File(tmp_path / name))


def test_default_weights_are_not_downloaded(no_weights_here: Path) -> None:
    with pytest.raises(DakitError, match="nothing is downloaded unasked") as caught:
        TimmClassifier(7, arch="resnet18", weights="default")
    assert str(no_weights_here / "resnet18.a1_in1k.safetensors") in str(caught.value)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("place", ["checkpoints", "cache"])
def test_default_weights_that_are_here_are_used(
    place: str, no_weights_here: Path, tmp_path: Path, images: torch.Tensor
) -> None:
    theirs = reference("resnet18", 1000)
    file = no_weights_here / "resnet18.a1_in1k.safetensors"
    if place == "cache":
        repository = tmp_path / "cache" / "models--timm--resnet18.a1_in1k"
        file = repository / "snapshots" / ("0" * 40) / "model.safetensors"
        file.parent.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    save_file(theirs.state_dict(), file)
    ours = TimmClassifier(7, arch="resnet18", weights="default").eval()
    seen = (images / 2 + 0.5 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(seen), pre_logits=True)
        torch.testing.assert_close(ours(images).features, expected, rtol=1e-4, atol=1e-4)


def test_key_knows_the_content_of_default_weights(no_weights_here: Path) -> None:
    params = {"arch": "resnet18", "weights": "default"}
    spec = Spec("classifier", "timm", params, TimmClassifier)
    file = no_weights_here / "resnet18.a1_in1k.safetensors"
    file.write_bytes(b"one")
    before = spec.identity()
    file.write_bytes(b"another")
    assert spec.identity() != before
    assert Spec("classifier", "timm", {**params, "weights": "none"}, TimmClassifier).identity()["found"] == {}


def test_default_weights_that_are_damaged(no_weights_here: Path) -> None:
    (no_weights_here / "resnet18.a1_in1k.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(DakitError, match="cannot be read as a state dict"):
        TimmClassifier(7, arch="resnet18", weights="default")


def test_unknown_names() -> None:
    with pytest.raises(DakitError, match='timm has no network "resnet5O", did you mean "resnet50"'):
        TimmClassifier(7, arch="resnet5O")
    with pytest.raises(DakitError, match=r"timm cannot make resnet18\.nope: .*nope"):
        TimmClassifier(7, arch="resnet18.nope")


def test_networks_that_cannot_be_read() -> None:
    with pytest.raises(DakitError, match="the head of levit_128s is a tuple"):
        TimmClassifier(7, arch="levit_128s")


def test_network_without_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("timm.models.resnet.ResNet.forward_intermediates")
    with pytest.raises(DakitError, match="the stages of resnet10t cannot be read"):
        TimmClassifier(7, arch="resnet10t")


def test_parameters_that_exclude_each_other() -> None:
    with pytest.raises(DakitError, match="normal_002 would overwrite the weights"):
        TimmClassifier(7, arch="resnet10t", weights="default", initialisation="normal_002")
    with pytest.raises(DakitError, match="weights cannot be default"):
        TimmClassifier(7, arch="resnet18", weights="default", small_images=True)


def test_trained_state_comes_back(images: torch.Tensor) -> None:
    """No tensor is in the state dict under two names, and none is left out of it."""
    network = TimmClassifier(2, arch="resnet10t").eval()
    state = network.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    spec = Spec("classifier", "timm", {"arch": "resnet10t"}, TimmClassifier)
    copy = Trained(spec, state, ("a", "b")).build()
    with torch.no_grad():
        assert torch.equal(copy(images).logits, network(images).logits)
