from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import dakit.use.export
from dakit.errors import DakitError
from dakit.interfaces import Prediction
from dakit.pipeline.run import run
from dakit.recipe.load import load_recipe
from dakit.results.runs import Run, open_run
from dakit.use.export import Deployed, compare, export
from dakit.use.inference import classify

SKIPPED = """\
recipe: skipped
method: adapt
engine: {device: cpu}
data:
  size: 8
  on_bad_image: skip
  photos: {use: manifest, file: ROOT/photos/list.csv, split: {holdout: 0.5}}
components:
  net: {use: resnet_cifar, depth: 8, width: 2}
stages:
  adapt: {do: train_classifier, train: photos.train, classifier: net, steps: 2, batch_size: 2}
  evaluate: {do: evaluate, model: adapt.model, test: photos.test}
"""
FORMATS = {"onnx": "model.onnx", "torch": "model.pt2"}


@pytest.fixture(scope="module")
def opened(faces: Path) -> Run:
    return open_run(faces / "run")


@pytest.fixture(scope="module")
def exported(opened: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per format: of cycle's fold 1."""
    root = tmp_path_factory.mktemp("exported")
    for kind, name in FORMATS.items():
        file, agreement = export(opened, "cycle", 0, 1, kind=kind, out=root / kind)
        assert file == root / kind / name
        assert agreement.images == 14
        assert agreement.difference <= 1e-6
        assert agreement.tested
    return {kind: root / kind for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_become_the_stored_probabilities(kind, exported, faces, opened):
    """Read by hand: uint8 pixels of the test images, in batches of 14, 3 and 1, without dakit's own loading."""
    evaluation = opened.rounds("cycle")[1].evaluation
    model = opened.classifier("cycle", 0, 1)
    files = sorted((faces / "target").glob("*/*.png"))
    pixels = np.stack([model.read(files[i]).numpy() for i in evaluation.indices])
    assert pixels.dtype == np.uint8
    if kind == "onnx":
        session = onnxruntime.InferenceSession(exported[kind] / "model.onnx", providers=["CPUExecutionProvider"])
        (given,), (made,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 3, 16, 16])
        assert (made.name, made.shape) == ("probabilities", ["batch", 7])
        answers = [session.run(None, {"images": pixels[:n]})[0] for n in (14, 3, 1)]
    else:
        program = torch.export.load(exported[kind] / "model.pt2").module()
        answers = [program(torch.from_numpy(pixels[:n])).numpy() for n in (14, 3, 1)]
    for answer in answers:
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, evaluation.probabilities[: len(answer)], atol=1e-6)


def test_the_file_holds_the_classes(exported):
    kept = {p.key: p.value for p in onnx.load(exported["onnx"] / "model.onnx").metadata_props}
    extra = {"dakit.json": ""}
    torch.export.load(exported["torch"] / "model.pt2", extra_files=extra)
    for text in (kept["dakit"], extra["dakit.json"]):
        assert json.loads(text) == {
            "classes": ["AN", "DI", "FE", "HA", "NE", "SA", "SU"],
            "input": "images: uint8 RGB (batch, 3, 16, 16)",
            "output": "probabilities: float32 (batch, 7)",
        }


@pytest.mark.parametrize("kind", FORMATS)
def test_the_card_s_own_code_says_what_dakit_says(kind, exported, faces, opened):
    card = (exported[kind] / "MODEL_CARD.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    files = [faces / "web" / "0.jpg", faces / "source" / "HA" / "1.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], cwd=exported[kind], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = classify([opened.classifier("cycle", 0, 1)], files, engine=opened.engine)
    for line, one in zip(done.stdout.splitlines(), said, strict=True):
        path, name, probability = line.rsplit(" ", 2)
        assert path == str(one.path)
        best = max(range(7), key=lambda k: one.probabilities[k])
        assert name == ["AN", "DI", "FE", "HA", "NE", "SA", "SU"][best]
        assert float(probability) == pytest.approx(one.probabilities[best], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("name", "params", "size"),
    [
        ("resnet_cifar", {"depth": 8}, 32),
        ("timm", {"arch": "resnet18"}, 64),
        ("timm", {"arch": "efficientnet_b0"}, 64),
        ("torchvision", {"arch": "alexnet"}, 64),
    ],
)
def test_the_built_in_classifiers_are_exported(name, params, size, kind, registry, tmp_path):
    model = Deployed(registry.spec("classifier", name, params).build(5)).eval().requires_grad_(False)
    images = torch.randint(256, (70, 3, size, size), dtype=torch.uint8)
    form = dakit.use.export.FORMATS[kind]
    form.write(model, images[:2], tmp_path / form.file, "{}")
    assert compare(model, form.load(tmp_path / form.file), images, None).images == 70


# ---------------------------------------------------------------------------------------- timm's own format
@pytest.fixture(scope="module")
def of_timm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` and a ``run`` on them with a network of timm that starts from a file of timm's names."""
    root = tmp_path_factory.mktemp("of_timm")
    rng = np.random.default_rng(0)
    for k, name in enumerate("ab"):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            pixels[..., k] //= 4
            Image.fromarray(pixels).save(root / "photos" / name / f"{i}.png")
    rows = [f"{name}/{i}.png,{name}" for i in range(6) for name in "ab"]
    (root / "photos" / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), root / "start.safetensors")
    net = f"timm, arch: test_vit, weights: {root}/start.safetensors"
    text = SKIPPED.replace("resnet_cifar, depth: 8, width: 2", net).replace("size: 8", "size: 32")
    (root / "r.yaml").write_text(text.replace("ROOT", str(root)).replace("skipped", "of_timm"))
    run(load_recipe(root / "r.yaml"), out=root / "run")
    return root


def test_a_network_of_timm_goes_out_under_timm_s_names_and_in_again(of_timm, tmp_path):
    """And all formats say the same of the same pixels."""
    again = open_run(of_timm / "run")
    model = again.classifier()
    files = sorted((of_timm / "photos").glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    expected = model.predict(files)
    for kind in ("timm", "onnx", "torch"):
        export(again, "adapt", 0, 0, kind=kind, out=tmp_path / kind)
    assert sorted(path.name for path in (tmp_path / "timm").iterdir()) == [
        "MODEL_CARD.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], expected, atol=1e-5)
    program = torch.export.load(tmp_path / "torch" / "model.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)
    theirs = timm.create_model(
        "test_vit", num_classes=2, checkpoint_path=str(tmp_path / "timm" / "model.safetensors"),
        dynamic_img_size=True, dynamic_img_pad=True,
    ).eval()  # fmt: skip
    config = theirs.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        logits = theirs((torch.from_numpy(pixels) / 255 - mean) / std)
        torch.testing.assert_close(
            model.network(torch.from_numpy(pixels) / 127.5 - 1).logits, logits, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(logits.softmax(1), expected, atol=1e-5)
    # In again: a row that trains nothing further gives the same.
    text = (of_timm / "r.yaml").read_text().replace(str(of_timm / "start"), str(tmp_path / "timm" / "model"))
    (tmp_path / "r.yaml").write_text(text)
    spec = load_recipe(tmp_path / "r.yaml").plan("adapt").stages[0].spec.params["classifier"]
    with torch.no_grad():
        back = spec.build(2).eval()(torch.from_numpy(pixels) / 127.5 - 1)
    torch.testing.assert_close(back.logits, logits, rtol=1e-4, atol=1e-5)


def test_the_card_of_timm_s_format_says_what_dakit_says(of_timm, tmp_path):
    again = open_run(of_timm / "run")
    _, agreement = export(again, "adapt", 0, 0, kind="timm", out=tmp_path / "out")
    assert agreement.tested
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "`model.safetensors` holds the weights of timm's `test_vit` under timm's names" in card
    code = card.split("```python\n")[1].split("```")[0]
    files = sorted((of_timm / "photos").glob("a/*.png"))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], cwd=tmp_path / "out", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    model = again.classifier()
    for line, file in zip(done.stdout.splitlines(), files, strict=True):
        path, name, probability = line.rsplit(" ", 2)
        best = model.predict(file)
        assert (path, name) == (str(file), model.classes[best.argmax()])
        assert float(probability) == pytest.approx(float(best.max()), abs=1e-5)


def test_another_network_has_no_format_of_timm(opened, tmp_path):
    with pytest.raises(DakitError, match=r'there is no format "timm"; there are: onnx, torch$'):
        export(opened, "cycle", 0, 1, kind="timm", out=tmp_path / "out")


# ---------------------------------------------------------------------------------------- mistakes
def test_nothing_is_overwritten(exported, opened):
    with pytest.raises(DakitError, match="is there already; nothing was written"):
        export(opened, "cycle", 0, 1, kind="torch", out=exported["torch"])
    with pytest.raises(DakitError, match='there is no format "onxx", did you mean "onnx"'):
        export(opened, "cycle", 0, 1, kind="onxx", out=exported["torch"])


@pytest.fixture
def fake(monkeypatch):
    """A format that is at once written: the model itself, a bit off."""

    def use(off: float) -> None:
        written: list[nn.Module] = []

        def write(model: nn.Module, example: Tensor, path: Path, about: str) -> None:
            written.append(model)
            path.write_bytes(b"")

        form = dakit.use.export._Format("model.pt2", write, lambda path: lambda images: written[0](images) + off)
        monkeypatch.setitem(dakit.use.export.FORMATS, "torch", form)

    return use


def test_a_model_that_disagrees_is_not_handed_out(fake, opened, tmp_path):
    fake(off=2e-4)
    with pytest.raises(DakitError, match=r"on 14 images a probability differs by 0\.0002"):
        export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out")
    fake(off=float("nan"))
    with pytest.raises(DakitError, match="does not agree"):
        export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    fake(off=5e-5)
    _, agreement = export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out")
    assert agreement.difference == pytest.approx(5e-5, rel=0.01)


def test_without_its_data_images_can_be_named(fake, opened, faces, tmp_path, monkeypatch):
    fake(off=0.0)
    row = opened.rows["cycle"]
    monkeypatch.setitem(row.data["target"].params, "root", str(tmp_path / "gone"))
    with pytest.raises(DakitError, match=r"test images, to compare on, cannot be read: .*gone[\s\S]*--check IMAGE"):
        export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out")
    check = [faces / "web" / "0.jpg"]
    _, agreement = export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out", check=check)
    assert (agreement.images, agreement.tested) == (1, False)
    assert "On 1 of the images named at export" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_files_that_the_run_left_out_are_left_out_again(tmp_path, fake):
    """The first file is none: in the run every other one moved up by one, and so they must here."""
    rng = np.random.default_rng(0)
    for k, name in enumerate("ab"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels[..., k] //= 4
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    rows = [f"{name}/{i}.png,{name}" for i in range(4) for name in "ab"]
    (tmp_path / "photos" / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (tmp_path / "photos" / "a" / "0.png").write_bytes(b"no image")
    (tmp_path / "r.yaml").write_text(SKIPPED.replace("ROOT", str(tmp_path)))
    run(load_recipe(tmp_path / "r.yaml"), out=tmp_path / "run")
    again = open_run(tmp_path / "run")
    evaluation = again.rounds("adapt")[0].evaluation
    images, stored = dakit.use.export._tested(again, "adapt", 0, 0)
    model = again.classifier("adapt", 0, 0)
    good = [tmp_path / "photos" / row.partition(",")[0] for row in rows][1:]
    assert torch.equal(images, torch.stack([model.read(good[i]) for i in evaluation.indices]))
    assert len(images) == len(stored) == len(evaluation.labels)
    fake(off=0.0)
    _, agreement = export(again, "adapt", 0, 0, kind="torch", out=tmp_path / "model")
    assert agreement.tested
    (tmp_path / "photos" / "b" / "3.png").write_bytes(b"none either")
    with pytest.raises(DakitError, match="manifest holds 6 images, but 7 when it was evaluated; see --check"):
        export(again, "adapt", 0, 0, kind="torch", out=tmp_path / "model2")


def test_other_images_than_the_evaluated_ones_are_found_out():
    def ours(images: Tensor) -> Tensor:
        return torch.full((len(images), 2), 0.5)

    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    assert compare(ours, ours, images, torch.full((3, 2), 0.45)).difference == 0
    with pytest.raises(DakitError, match=r"not those that the run evaluated: .* by up to 0\.25"):
        compare(ours, ours, images, torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]))


def test_a_network_that_cannot_be_followed(monkeypatch, opened, tmp_path):
    class Moody(nn.Module):
        def forward(self, images: Tensor) -> Prediction:
            logits = images.mean((2, 3)) if images.sum() > 0 else -images.mean((2, 3))
            return Prediction(logits, logits, ())

    model = opened.classifier("cycle", 0, 0)
    monkeypatch.setattr(Run, "classifier", lambda *_: type(model)(Moody(), *list(vars(model).values())[1:]))
    with pytest.raises(DakitError, match=r"adapt \(for cycle, seed 0, fold 0\): cannot be exported as torch: "):
        export(opened, "cycle", 0, 0, kind="torch", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_every_pixel_value_is_scaled_as_in_training():
    class Echo(nn.Module):
        def forward(self, images: Tensor) -> Prediction:
            logits = images.flatten(1)[:, :2] * 3
            return Prediction(logits, logits, ())

    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    pair = torch.cat([images, 255 - images], 3)
    said = Deployed(Echo())(pair)
    x = np.arange(256) / 127.5 - 1
    np.testing.assert_allclose(said[:, 0], 1 / (1 + np.exp(3 * (-x - x))), rtol=1e-5)
