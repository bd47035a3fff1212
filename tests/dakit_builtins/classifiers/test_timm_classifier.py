from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import parse_model_name
from torch import nn

from dakit.errors import DakitError
from dakit.interfaces import File, Prediction, Spec, Trained
from dakit.testing import check_classifier
from dakit_builtins.classifiers.timm_classifier import TimmClassifier
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # timm's for resnet10t
LITE = Path(__file__).parents[4] / "shared" / "data" / "weights" / "tf_efficientnet_lite0.safetensors"


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


GRIDS = {  # the maps' (height, width) of images of 64 x 96 pixels
    "vit_tiny_patch16_224": [(4, 6)],
    "vit_small_patch14_dinov2": [(5, 7)],  # filled up to 70 x 98
    "vit_small_patch14_reg4_dinov2": [(5, 7)],
    "vit_small_patch16_dinov3": [(4, 6)],
    "vit_xsmall_patch16_clip_224": [(4, 6)],
    "deit_tiny_distilled_patch16_224": [(4, 6)],
    "eva02_tiny_patch14_224": [(5, 7)],
    "swin_tiny_patch4_window7_224": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "swinv2_tiny_window8_256": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "convnext_atto": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "tf_efficientnet_lite0": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "resnet10t": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "regnetx_002": [(16, 24), (8, 12), (4, 6), (2, 3)],
    "mobilenetv3_small_050": [(16, 24), (8, 12), (4, 6), (2, 3)],
}
ANY_SIZE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True}, {})


def of_any_size(arch: str, classes: int) -> nn.Module:
    """timm's own network, by the first of its own arguments that it knows."""
    for options in ANY_SIZE:
        try:
            return timm.create_model(arch, num_classes=classes, **options).eval()
        except TypeError:
            continue
    raise AssertionError(arch)


@pytest.mark.parametrize("arch", GRIDS)
def test_every_family_at_a_size_of_its_own_with_weights_under_timms_names(
    arch: str, images: torch.Tensor, tmp_path: Path
) -> None:
    """Weights come from a network of timm's usual size, so whatever depends on the size is interpolated."""
    if not timm.is_model(arch):
        pytest.skip(f"timm {timm.__version__} has no {arch} yet")
    torch.manual_seed(5)
    theirs = of_any_size(arch, 7)
    with torch.no_grad():
        for name, value in theirs.named_parameters():  # those that begin at 0 or 1 say nothing of where they go
            if value.ndim == 1 or "token" in name or "pos_embed" in name:
                value.add_(0.1 * torch.randn_like(value))
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = TimmClassifier(7, arch=arch, weights=File(tmp_path / "weights.safetensors")).eval()
    mean, std = (torch.tensor(theirs.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        prediction = ours(images)
        expected = theirs((images / 2 + 0.5 - mean) / std)
        torch.testing.assert_close(prediction.logits, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.head(prediction.features), prediction.logits)
        assert expected.std() > 1e-3
    assert [tuple(m.shape[2:]) for m in prediction.maps] == GRIDS[arch]
    assert ours.stem(images).ndim == 4


@pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "test_vit3"])
def test_transformers_keep_the_contract(arch: str) -> None:
    check_classifier(TimmClassifier, arch=arch)


def test_the_map_of_a_vit_is_its_patches_and_nothing_else(images: torch.Tensor) -> None:
    """Class and register tokens stand before the patches, which stand row by row."""
    network = TimmClassifier(7, arch="vit_small_patch14_reg4_dinov2").eval()
    tokens: list[torch.Tensor] = []
    network.network.blocks[-1].register_forward_hook(lambda *a: tokens.append(a[2].clone()))
    with torch.no_grad():
        (found,) = network(images[..., :70]).maps
    assert tokens[0].shape == (2, 1 + 4 + 25, 384)
    for row in range(5):
        for column in range(5):
            torch.testing.assert_close(found[:, :, row, column], tokens[0][:, 5 + 5 * row + column])


def test_attention_goes_from_a_vit_to_a_resnet(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    teacher, student = TimmClassifier(7, arch="test_vit").eval(), TimmClassifier(7, arch="resnet10t")
    said = teacher(images)
    loss = AttentionTransfer()(Prediction(*(part.detach() for part in said[:2]), said.maps, False), student(images))
    vectors = [nn.functional.normalize(m.abs().sum(1).flatten(1)) for m in (said.maps[-1], student(images).maps[2])]
    torch.testing.assert_close(loss, (vectors[0] - vectors[1]).norm(dim=1).mean() / 2)
    loss.backward()
    assert any(weight.grad.any() for weight in student.network.layer3.parameters())


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2"])
def test_positions_of_a_file_are_brought_to_another_size(arch: str, tmp_path: Path) -> None:
    """From a grid of 6 x 6 to one of 4 x 4: bicubic, antialiased, the class token's position as it is."""
    side = 14 if "14" in arch else 16
    torch.manual_seed(5)
    theirs = timm.create_model(arch, num_classes=7, img_size=6 * side)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = TimmClassifier(7, arch=arch, size=4 * side, weights=File(tmp_path / "weights.safetensors"))
    before, found = theirs.pos_embed.detach(), ours.network.pos_embed.detach()
    grid = before[:, 1:].reshape(1, 6, 6, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, (4, 4), mode="bicubic", antialias=True)
    torch.testing.assert_close(found[:, 1:], grid.flatten(2).transpose(1, 2))
    assert torch.equal(found[:, 0], before[:, 0])
    assert ours.network.blocks[0].attn.qkv.weight.equal(theirs.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("arch", ["mixer_s32_224", "cait_xxs24_224", "maxvit_rmlp_pico_rw_256"])
def test_networks_of_one_size(arch: str, images: torch.Tensor) -> None:
    natural = timm.create_model(arch).pretrained_cfg["input_size"][1]
    with pytest.raises(DakitError, match=f"built for images of {natural} x {natural} pixels, not 64 x 64; size: 64 "):
        TimmClassifier(7, arch=arch)(images[..., :64])
    torch.manual_seed(5)
    theirs = timm.create_model(arch, num_classes=7, img_size=64).eval()
    torch.manual_seed(5)
    ours = TimmClassifier(7, arch=arch, size=64).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images[..., :64]).logits, theirs(images[..., :64]), rtol=1e-4, atol=1e-5)
    with pytest.raises(DakitError, match=r"built for images of 64 x 64 pixels, not 64 x 96$"):
        ours(images)


def test_a_size_that_cannot_be() -> None:
    with pytest.raises(DakitError, match="resnet10t takes images of any size: leave size out"):
        TimmClassifier(7, arch="resnet10t", size=64)


def test_mean_and_std(images: torch.Tensor, tmp_path: Path) -> None:
    """In timm's terms: (x - mean) / std of colours from 0 to 1."""
    torch.manual_seed(5)
    plain = TimmClassifier(7, arch="resnet10t").eval()
    torch.manual_seed(5)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    ours = TimmClassifier(7, arch="resnet10t", mean=mean, std=std).eval()
    seen = ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).logits, plain(seen).logits, rtol=1e-4, atol=1e-5)
    save_file(reference("resnet10t", 7).state_dict(), tmp_path / "weights.safetensors")
    weights = File(tmp_path / "weights.safetensors")
    half = TimmClassifier(7, arch="resnet10t", weights=weights, mean=(0.5,) * 3)
    assert half.colours == ((0.5,) * 3, tuple(reference("resnet10t", 7).pretrained_cfg["std"]))
    assert not any(half.mean.flatten().tolist())
    with pytest.raises(DakitError, match="std: expected three positive numbers"):
        TimmClassifier(7, arch="resnet10t", std=(1.0, 0.0, 1.0))


@pytest.mark.skipif(not LITE.is_file(), reason=f"{LITE} is not here")
def test_imagenet_weights_of_efficientnet_lite(images: torch.Tensor) -> None:
    theirs = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(LITE)).eval()
    ours = TimmClassifier(1000, arch="tf_efficientnet_lite0", weights=File(LITE)).eval()
    with torch.no_grad():  # timm's mean and std are 0.5
        torch.testing.assert_close(ours(images).logits, theirs(images), rtol=1e-4, atol=1e-4)


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


# ---------------------------------------------------------------------------------------- timm's own format
@pytest.mark.parametrize("arch", ["resnet10t", "mobilenetv3_small_050", "test_vit", "deit_tiny_distilled_patch16_224"])
@pytest.mark.parametrize("weights", ["none", "file"])
def test_out_to_timm_and_in_again(arch: str, weights: str, images: torch.Tensor, tmp_path: Path) -> None:
    """timm reads what was written by its own means, and what it then saves starts a network of ours."""
    torch.manual_seed(3)
    start = {}
    if weights == "file":
        save_file(timm.create_model(arch, num_classes=3).state_dict(), tmp_path / "start.safetensors")
        start = {"weights": File(tmp_path / "start.safetensors")}
    ours = TimmClassifier(3, arch=arch, **start).eval()
    with torch.no_grad():
        ours.head.bias.normal_()
    (tmp_path / "out").mkdir()
    made = ours.formats()["timm"](tmp_path / "out", ("a", "b", "c"), 64)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["label_names"], config["pretrained_cfg"]["input_size"]) == (["a", "b", "c"], [3, 64, 64])
    options = {} if "net" in arch else {"dynamic_img_size": True, "dynamic_img_pad": True}
    native = {} if "net" in arch else {"img_size": 160 if arch == "test_vit" else 224}
    assert config["model_args"] == {**native, **options}
    file = tmp_path / "out" / made.file
    theirs = timm.create_model(arch, num_classes=3, checkpoint_path=str(file), **options).eval()
    mean, std = (torch.tensor(config["pretrained_cfg"][name]).view(3, 1, 1) for name in ("mean", "std"))
    usual = theirs.pretrained_cfg if weights == "file" else {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert (config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]) == (
        list(usual["mean"]),
        list(usual["std"]),
    )
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    given = pixels / 127.5 - 1
    with torch.no_grad():
        logits = ours(given).logits
        torch.testing.assert_close(theirs((pixels / 255 - mean) / std), logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.probabilities(pixels), logits.softmax(1), rtol=1e-4, atol=1e-5)
        again = TimmClassifier(
            3, arch=arch, weights=File(file), mean=tuple(mean.flatten().tolist()), std=tuple(std.flatten().tolist())
        ).eval()
        torch.testing.assert_close(again(given).logits, logits, rtol=1e-4, atol=1e-5)
        if parse_model_name("local-dir:x")[0] == "local-dir":  # timm 1.0.16
            folder = timm.create_model(f"local-dir:{file.parent}", pretrained=True).eval()
            torch.testing.assert_close(folder((pixels / 255 - mean) / std), logits, rtol=1e-4, atol=1e-5)


def test_what_timm_cannot_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match="small_images makes another resnet18 than timm's"):
        TimmClassifier(3, arch="resnet18", small_images=True).formats()["timm"](tmp_path, ("a", "b", "c"), 32)
    assert list(tmp_path.iterdir()) == []
