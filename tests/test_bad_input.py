"""Everything a user can get wrong: each with its message, exit code 2 and nothing written. The table is docs/errors.md."""

# ruff: noqa: E501  (a table is wider than code)
from __future__ import annotations

import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import toys as toy_module

ROOT = Path(__file__).parent.parent
PRETRAIN = "pretrain: {do: toy_train, train: source.train, classifier: deep}"
TRAIN = PRETRAIN.replace("toy_train", "train_classifier").replace("}", ", steps: 1, batch_size: 2}")
SOURCE = "source: {use: toy_images, people: 5, split: {holdout: 0.2}}"
DEEP = "deep: {use: toy_classifier}"

# ------------------------------------------------------------------------------------------ recipe
RECIPE: dict[str, tuple[str, str, str]] = {  # what: (this part of the toy recipe, becomes, the message)
    "not YAML": ("method: cycleat", "method: [cycleat", "toy.yaml:4: not valid YAML: expected ',' or ']'"),
    "not UTF-8": ("title: A toy table", "title: caf\udce9", "not UTF-8 text (byte 22); a recipe is a YAML file"),
    "a key twice": ("  generator: {use", f"  {DEEP}\n  generator: {{use", "components.deep: this key stands twice (first at"),
    "an unknown key": ("title:", "titel:", 'titel: a recipe has no such key, did you mean "title"?'),
    "an unknown parameter": ("scale: 0.5", "scalle: 0.5", 'has no such parameter, did you mean "scale"?'),
    "a value of the wrong type": ("people: 5", "people: five", "data.source.people: Input should be a valid integer, not 'five'"),
    "a negative number": (PRETRAIN, PRETRAIN.replace("}", ", steps: -1}"), "stages.pretrain.steps: Input should be greater than 0, not -1"),
    "NaN": ("scale: 0.5", "scale: .nan", "components.shallow.scale: Input should be a finite number, not nan"),
    "a key within a mapping that there is not": (PRETRAIN, TRAIN.replace("}", ", optimiser: {weight_deacy: 0.1}}"), 'stages.pretrain.optimiser: weight_deacy: Optimiser has no such parameter, did you mean "weight_decay"?'),
    "an optimiser that there is not": (PRETRAIN, TRAIN.replace("}", ", optimiser: {name: adamax}}"), "stages.pretrain.optimiser: name: Input should be 'adam', 'adamw' or 'sgd', not 'adamax'"),
    "weight decay in two places": (PRETRAIN, TRAIN.replace("}", ", weight_decay: 0.1, optimiser: {}}"), "stages.pretrain: `weight_decay` has no say beside `optimiser`: leave it out, and write weight_decay: 0.1 within `optimiser`"),
    "statistics of no images": (PRETRAIN, TRAIN.replace("}", ", normalisation: adapt}"), "stages.pretrain: the input `target` and `normalisation: adapt` go together: set both or neither"),
    "a frozen body and a probe": (PRETRAIN, TRAIN.replace("}", ", update: head, freeze: body}"), "stages.pretrain: `update: head` freezes more than `freeze: body` does: leave one of them out"),
    "stages that read each other": (PRETRAIN, PRETRAIN.replace("}", ", extra: select.images}"), "stages.pretrain.extra: select does not stand above; a stage may read only what stands above it"),
    "a stage that reads itself": (PRETRAIN, PRETRAIN.replace("}", ", init: pretrain.model}"), "stages.pretrain.init: pretrain does not stand above"),
    "a reference to nothing": ("extra: select.images", "extra: select.image", 'stage select makes no "image", did you mean "images"?'),
    "the test images in training": (PRETRAIN, PRETRAIN.replace("source.train", "source.test"), "source.test holds the test images: only an evaluation stage, such as `evaluate`, may read them"),
    "a metric that there is not": ("title:", "metric: acuracy\ntitle:", 'metric: there is no metric "acuracy", did you mean "accuracy"?'),
    "a vote without groups of one class": ("title:", "metric: vote\ntitle:", "metric: vote: target (seed 0): a vote needs groups of one class each; 4 of 4 groups of test images have several"),
    "an evaluation that would let test images out": ("do: evaluate,", "do: toy_leak,", "all it may make is an Evaluation (dakit.statistics.metrics), not also model"),
    "like nothing that stands there": (PRETRAIN, PRETRAIN + "\n  again: {like: pretrian}", 'stages.again.like: there is no stage "pretrian", did you mean "pretrain"?'),
    "like what stands below": (PRETRAIN, "again: {like: pretrain}\n  " + PRETRAIN, "stages.again.like: pretrain does not stand above; an entry may be like one that stands above it"),
    "a base that is not there": ("method: cycleat", "base: cycleat_swef", 'base: there is no shipped recipe "cycleat_swef", did you mean "cycleat_sfew"?'),
    "a base beside the recipe that is not there": ("method: cycleat", "base: toi.yaml", 'base: toi.yaml: there is no such file, did you mean "toy.yaml"?'),
    "a recipe that builds on itself": ("method: cycleat", "base: toy.yaml", "base: it builds on itself: toy.yaml -> toy.yaml"),
    "a plugin that is not there": (DEEP, "deep: {use: toy_clasifier}", 'no plugin offers "toy_clasifier", did you mean "toy_classifier"?'),
    "a component of the wrong kind": (PRETRAIN, PRETRAIN.replace(": deep", ": generator"), '"generator" is a translator, but a classifier is needed; there are: deep, shallow'),
    "domains with other classes": (SOURCE, SOURCE.replace("people", "names: [bright, dark], people"), "data: the class lists differ:"),
    "an empty list of classes": ("  size: 4", "  size: 4\n  classes: []", "data.classes: must be at least two different names, not []"),
    "one class": ("  size: 4", "  size: 4\n  classes: [dark]", "data.classes: must be at least two different names, not ['dark']"),
    "more neighbours than the pool has": ("neighbours: 2", "neighbours: 99", "stages.select: neighbours: 99 for each anchor, but the pool has 8 images; at most 8 fits"),
    "more folds than a class has groups": ("split: {folds: predefined}", "split: {folds: 9}", 'data.target.split: folds: 9: class "dark" has 4 images in 4 groups, too few to be on every side'),
    "a choice for bad images that there is not": ("  size: 4", "  size: 4\n  on_bad_image: ignore", "data.on_bad_image: must be error or skip, not 'ignore'"),
}  # fmt: skip

# -------------------------------------------------------------------------------------------- data
FOLDER = """\
recipe: mine
method: plain
data:
  size: 8
  photos: {use: image_folder, root: photos, split: {holdout: 0.5}}
components:
  net: {use: toy_classifier}
stages:
  train: {do: toy_train, train: photos.train, classifier: net}
  evaluate: {do: evaluate, model: train.model, test: photos.test}
"""
LISTED = FOLDER.replace(
    "image_folder, root: photos, split: {holdout: 0.5}", "manifest, file: list.csv, split: {predefined: true}"
)
ROWS = [f"photos/{name}/{i}.png,{name},{part}" for name in ("cat", "dog") for i, part in enumerate(("train", "test"))]
COLUMNS = "path,label,split"


def photo(i: int = 0, size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8))


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG file; nothing of such an image is here."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def truncated(cat: Path) -> None:
    photo(size=64).save(cat / "cut.jpg")
    content = (cat / "cut.jpg").read_bytes()
    (cat / "cut.jpg").write_bytes(content[: len(content) // 2])


def animated(cat: Path) -> None:
    photo(1).save(cat / "film.gif", save_all=True, append_images=[photo(2), photo(3)])


def listed(*rows: str, columns: str = COLUMNS, encoding: str = "utf-8", end: str = "\n") -> Callable[[Path], Any]:
    """Write the CSV file, two folders above the cats."""
    text = end.join([columns, *rows]) + end
    return lambda cat: (cat.parent.parent / "list.csv").write_bytes(text.encode(encoding))


def deep(name: str, kind: Any, most: float) -> Callable[[Path], Any]:
    """An image of 8 x 8 values of more than 8 bits, from 0 to ``most``."""
    return lambda cat: Image.fromarray(np.linspace(0, most, 64).astype(kind).reshape(8, 8)).save(cat / name)


def outside(cat: Path) -> None:
    photo().save(cat.parent.parent.parent / "outside.png")
    listed(*ROWS, "../outside.png,cat,train")(cat)


BAD = "1 of 9 images cannot be read"
DATA: dict[str, tuple[str, Callable[[Path], Any], str]] = {  # what: (recipe, done to the folder of cats, the message)
    "a folder that is not there": (FOLDER, lambda cat: cat.parent.rename("elsewhere"), "there is no such folder; expected one folder per class"),
    "an empty folder": (FOLDER, lambda cat: [p.unlink() for p in cat.parent.rglob("*.png")], "photos: holds no images"),
    "a JPEG that is cut off": (FOLDER, truncated, "image file is truncated"),
    "a file of zero bytes": (FOLDER, lambda cat: (cat / "x.png").touch(), f"{BAD}:\n  photos/cat/x.png: it is empty"),
    "text named .png": (FOLDER, lambda cat: (cat / "x.png").write_text("hello"), f"{BAD}:\n  photos/cat/x.png: it is no image, or of an unknown kind"),
    "12 bits in 16": (FOLDER, deep("x.png", np.uint16, 4095), "photos/cat/x.png: cannot be read as an image: its values are whole numbers from 0 to 4095, and nothing says which values are black and white; set `range` of its dataset, such as `range: [0, 4095]`"),
    "floating-point numbers": (FOLDER, deep("x.tif", np.float32, 1), "its values are floating-point numbers from 0 to 1, and nothing says which values are black and white; set `range` of its dataset, such as `range: [0, 1]`"),
    "a range of one value": (FOLDER.replace("root: photos", "root: photos, range: [5, 5]"), lambda cat: None, "range: [5, 5]: expected two different numbers, the values of black and of white"),
    "a range that no value lies in": (FOLDER.replace("root: photos", "root: photos, range: [0, 4095]"), deep("x.tif", np.float32, 0.5), f"{BAD}:\n  photos/cat/x.tif: `range: [0, 4095]` makes one grey of its values"),
    "NaN in an image": (FOLDER.replace("root: photos", "root: photos, range: [0, 1]"), deep("x.tif", np.float32, np.nan), f"{BAD}:\n  photos/cat/x.tif: 64 of its values are NaN or infinite"),
    "an animated GIF": (FOLDER, animated, f"{BAD}:\n  photos/cat/film.gif: it holds 3 images, but one is expected"),
    "a decompression bomb": (FOLDER, lambda cat: (cat / "x.png").write_bytes(png_of(50_000, 50_000)), "Image size (2500000000 pixels) exceeds limit"),
    "an image somewhat too large": (FOLDER, lambda cat: (cat / "x.png").write_bytes(png_of(10_000, 10_000)), "x.png: 10000 x 10000 pixels, but at most 89,478,485 pixels are allowed"),
    "a file that may not be read": (FOLDER, lambda cat: photo().save(cat / "secret.png"), "photos/cat/secret.png: Permission denied"),
    "a link to itself": (FOLDER, lambda cat: (cat / "x.png").symlink_to("x.png"), "photos/cat/x.png: Too many levels of symbolic links"),
    "one class folder": (FOLDER, lambda cat: [p.unlink() for p in (cat.parent / "dog").iterdir()], "there is one class, cat; expected images of two classes or more"),
    "a class without images": (FOLDER.replace("size: 8", "size: 8\n  classes: [cat, dog, emu]"), lambda cat: None, "no image is of the class emu; expected images of two classes or more"),
    "a label that is no class": (FOLDER.replace("size: 8", "size: 8\n  classes: [cat, emu]"), lambda cat: None, 'photos: "dog" (4 images): not among the classes cat, emu; list it there or in `ignore`'),
    "a manifest that is not there": (LISTED, lambda cat: None, "list.csv: there is no such file; expected a CSV file with the columns path, label, split, group"),
    "a manifest without a column": (LISTED, listed("a.png,cat", columns="file,label"), 'list.csv:1: there is no column "path", only: file, label'),
    "a column that is misspelt": (LISTED, listed(*ROWS, columns="path,lable,split"), 'list.csv:1: column "lable": did you mean "label"?'),
    "an absolute path in a manifest": (LISTED, listed(*ROWS, "/etc/hostname,cat,train"), "list.csv:6: /etc/hostname is absolute or leads out of"),
    "a path with .. in a manifest": (LISTED, outside, "list.csv:6: ../outside.png is absolute or leads out of"),
    "a listed image that is not there": (LISTED, listed(*ROWS, "photos/cat/99.png,cat,train"), "list.csv: 1 of 5 images are missing"),
    "one image with two labels": (LISTED, listed(*ROWS, ROWS[0].replace(",cat,", ",dog,")), 'list.csv:6: photos/cat/0.png has two labels: "dog", but "cat" in line 2; one of them is wrong'),
    "one file in train and test": (LISTED, listed(*ROWS, ROWS[0].replace("train", "test")), 'list.csv:6: photos/cat/0.png is in "test", but in "train" in line 2'),
}  # fmt: skip


def odd(name: str, change: Callable[[Image.Image], Image.Image], **options: Any) -> Callable[[Path], Any]:
    return lambda cat: change(photo()).save(cat / name, **options)


def turned(cat: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(cat / "x.jpg", exif=exif)


FINE: dict[str, tuple[str, Callable[[Path], Any], str]] = {  # what: (recipe, done to the folder of cats, what happens)
    "CMYK": (FOLDER, odd("x.jpg", lambda image: image.convert("CMYK")), "read as RGB"),
    "16 bits a pixel, the whole range in use": (FOLDER, deep("x.png", np.uint16, 65535), "its high byte is read"),
    "12 bits in 16, with their range": (FOLDER.replace("root: photos", "root: photos, range: [0, 4095]"), deep("x.png", np.uint16, 4095), "0 to 4095 become 0 to 255"),
    "a browser's .jfif and .avif": (FOLDER, lambda cat: (photo().save(cat / "x.jfif", "JPEG"), photo().save(cat / "y.avif")), "read as RGB"),
    "grey": (FOLDER, odd("x.png", lambda image: image.convert("L")), "read as RGB"),
    "alpha": (FOLDER, odd("x.png", lambda image: image.convert("RGBA")), "laid over black"),
    "a palette": (FOLDER, odd("x.png", lambda image: image.convert("P")), "read as RGB"),
    "a GIF of one frame": (FOLDER, odd("x.gif", lambda image: image.convert("P")), "read as RGB"),
    "EXIF rotation": (FOLDER, turned, "turned upright"),
    "1 x 1": (FOLDER, odd("x.png", lambda image: image.resize((1, 1))), "enlarged"),
    "spaces, newlines and other alphabets in names": (FOLDER, odd("α β\n\x1b[31m.png", lambda image: image), "shown in quotes where they would disturb a terminal"),
    "a linked folder that leads back": (FOLDER, lambda cat: (cat / "loop").symlink_to(".."), "not entered"),
    "a manifest with CRLF and a byte order mark": (LISTED, listed(*ROWS, encoding="utf-8-sig", end="\r\n"), "read"),
}  # fmt: skip


# ----------------------------------------------------------------------------------------- weights
class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hacked",)


def weights(name: str, change: Callable[[dict[str, torch.Tensor]], Any] = lambda state: None) -> Callable[[], Any]:
    def write() -> None:
        state = timm.create_model("resnet10t", num_classes=2).state_dict()
        save_file(change(state) or state, name)

    return write


def cut() -> None:
    weights("w.safetensors")()
    content = Path("w.safetensors").read_bytes()
    Path("w.safetensors").write_bytes(content[: len(content) // 2])


WEIGHTS: dict[str, tuple[str, Callable[[], Any], str]] = {  # what: (file, how it is made, the message)
    "no such file of weights": ("w.pth", lambda: None, "weights w.pth: cannot be read as a state dict: No such file or directory"),
    "weights of another architecture": ("w.safetensors", weights("w.safetensors", lambda state: {"features.0.weight": torch.zeros(2)}), "no name is the same: these are weights of another architecture"),
    "weights of another shape": ("w.safetensors", weights("w.safetensors", lambda state: state.update({"bn1.weight": torch.ones(3)})), "1 entries beside the head differ\n  bn1.weight: (3,), expected (64,)"),
    "a pickle with code": ("w.pth", lambda: Path("w.pth").write_bytes(pickle.dumps(Evil(), protocol=2)), "weights w.pth: cannot be read as a state dict: it holds Python objects, which could run code"),
    "safetensors that are cut off": ("w.safetensors", cut, "weights w.safetensors: cannot be read as a state dict: it is damaged or cut off"),
    "NaN in weights": ("w.safetensors", weights("w.safetensors", lambda state: state.update({"bn1.bias": torch.full((64,), torch.nan)})), "tensors hold NaN or infinity: bn1.bias"),
}  # fmt: skip

# ------------------------------------------------------------------------------------------- flags
FLAGS: dict[str, tuple[list[str], str]] = {  # what: (arguments after the recipe, the message)
    "an unknown row": (["--variant", "s2s"], 'there is no variant "s2s", did you mean "s2t"?'),
    "an unknown profile": (["--profile", "bigg"], 'there is no profile "bigg", did you mean "big"?'),
    "an unknown key in --set": (["--set", "adopt.steps=3"], '--set adopt.steps: adopt.steps: nothing is called "adopt", did you mean "adapt"?'),
    "--set without a value": (["--set", "adapt.steps"], '--set adapt.steps: expected KEY=VALUE, such as "adapt.steps=500", or ROW:KEY=VALUE'),
    "a fold that is not there": (["--fold", "7"], "--fold 7: s2t has the folds 0 to 1"),
    "an unknown stage in --until": (["--until", "adopt"], '--until adopt: s2t has no such stage; there are: evaluate, pretrain'),
    "an unknown stage in --fresh": (["--fresh", "adopt"], '--fresh adopt: no such stage, did you mean "adapt"?'),
    "two choices of rows": (["--variant", "s2t", "--all-variants"], "--variant and --all-variants exclude each other"),
    "a folder of results that cannot be written": (["--out", "toy.yaml/runs"], "cannot be written: Not a directory"),
    "a plugin file that is not there": (["--plugin", "mine.py"], "--plugin mine.py: there is no such file"),
    "a batch larger than the set": (["cycleat_sfew", "--profile", "smoke", "--set", "pretrain.batch_size=999"], "stages.pretrain: batch_size: 999 takes 999 images of train a step, but there are 56; at most 56 fits"),
    "images smaller than a discriminator needs": (["cycleat_sfew", "--profile", "smoke", "--set", "discriminator.layers=5"], "stages.stage_1.discriminator: patchgan needs images of at least 96 x 96 pixels, not 32 x 32"),
    "images of a size that a translator cannot take": (["cycleat_sfew", "--profile", "smoke", "--set", "data.size=30", "--variant", "s2t_att_gen"], "resnet_generator needs images whose height and width are multiples of 4"),
    "a GPU that is not there": (["--set", "engine.device=cuda"], 'engine.device: "cuda" was asked for, but there is no CUDA device; expected auto or cpu'),
}  # fmt: skip


@pytest.fixture
def refused(dakit, tmp_path):
    """Run it: exit code 2, the message, no traceback, and not a file more or less than before."""

    def call(message: str, *arguments: object) -> None:
        before = sorted(tmp_path.rglob("*"))
        code, _, err = dakit("run", *arguments)
        assert code == 2, err
        assert message in err
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before

    return call


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            photo(i).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("what", RECIPE)
def test_recipe(refused, tmp_path, toys, what):
    old, new, message = RECIPE[what]
    assert old in toy_module.RECIPE
    text = toy_module.RECIPE.replace(old, new)
    (tmp_path / "toy.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(message, "toy.yaml", "--plugin", toys)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("what", DATA)
def test_data(refused, photos, toys, monkeypatch, what):
    recipe, change, message = DATA[what]
    Path("mine.yaml").write_text(recipe)
    change(photos / "cat")
    opened = open

    def guarded(file: Any, *arguments: Any, **options: Any) -> Any:  # the tests may run as root, who reads everything
        if str(file).endswith("secret.png"):
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", guarded)
    refused(message, "mine.yaml", "--plugin", toys)


@pytest.mark.parametrize("what", FINE)
def test_odd_but_valid_data(dakit, photos, toys, what):
    recipe, change, _ = FINE[what]
    Path("mine.yaml").write_text(recipe)
    change(photos / "cat")
    code, out, err = dakit("run", "mine.yaml", "--plugin", toys)
    assert code == 0, err
    assert "warning" not in out


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights(refused, tmp_path, toys, what):
    file, make, message = WEIGHTS[what]
    text = toy_module.RECIPE.replace(DEEP, f"deep: {{use: timm, arch: resnet10t, weights: {file}}}")
    (tmp_path / "toy.yaml").write_text(text.replace("size: 4", "size: 32"))
    make()
    refused(message, "toy.yaml", "--variant", "s2t", "--plugin", toys)


@pytest.mark.parametrize("what", FLAGS)
def test_flags(refused, tmp_path, toys, monkeypatch, what):
    arguments, message = FLAGS[what]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
    recipe = [] if arguments[0] == "cycleat_sfew" else ["toy.yaml", "--plugin", toys]
    refused(message, *recipe, *arguments)


def test_every_fault_of_the_data_is_in_one_report(refused, photos, toys):
    Path("mine.yaml").write_text(
        FOLDER.replace("image_folder", "image_folder").replace(
            "components:", "  more: {use: image_folder, root: more, split: {holdout: 0.5}}\ncomponents:"
        )
    )
    text = Path("mine.yaml").read_text().replace("train: photos.train", "train: photos.train, extra: more.train")
    Path("mine.yaml").write_text(text)
    Path("more/cat").mkdir(parents=True)
    Path("more/cat/y.png").touch()
    for i in range(30):
        (photos / "dog" / f"bad {i:02d}.png").write_text("x")
    (photos / "cat" / "\x1b[31m\n.png").touch()
    message = "photos (image_folder): 31 of 39 images cannot be read:\n  '"
    refused(message, "mine.yaml", "--plugin", toys)
    refused("\n  and 11 more\n  mend or remove them, or set data.on_bad_image: skip\n", "mine.yaml", "--plugin", toys)
    refused(
        "more (image_folder): 1 of 1 images cannot be read:\n  more/cat/y.png: it is empty",
        "mine.yaml",
        "--plugin",
        toys,
    )


def test_bad_images_are_left_out_on_demand_counted_and_told(dakit, photos, toys):
    Path("mine.yaml").write_text(FOLDER)
    (photos / "dog" / "9.png").write_text("x")
    skip = ["run", "mine.yaml", "--plugin", toys, "--set", "data.on_bad_image=skip"]
    code, out, _ = dakit(*skip)
    assert code == 0
    assert "warning: photos (image_folder): 1 of 9 images cannot be read and are left out:" in out
    assert "photos/dog/9.png: it is no image, or of an unknown kind" in out
    assert "nothing to do" in (again := dakit(*skip)[1])
    assert "1 of 9 images cannot be read" in again


def test_the_table_is_this_test(tmp_path):
    """docs/errors.md; ``python tests/test_bad_input.py`` writes it anew."""
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == table()


def table() -> str:
    def row(*cells: str) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"

    lines = [
        "# What can be wrong, and what dakit says",
        "",
        "Every line is a test (`tests/test_bad_input.py`): the message is shown, the exit code is 2 and nothing is written.",
        "Problems of one kind are told together: all of a recipe with `file:line: key`, all damaged images of all data sets",
        "with a count. What is shown here is the part of the message that does not depend on your files.",
    ]
    faults = {"Recipe": RECIPE, "Data": DATA, "Weights": WEIGHTS, "Flags, and what does not fit together": FLAGS}
    for title, cases in faults.items():
        lines += ["", f"## {title}", "", row("what", "message", "exit code"), row("---", "---", "---")]
        lines += [row(what, f"`{case[-1]}`", "2") for what, case in cases.items()]
    lines += ["", "## Odd but valid images", "", row("what", "what happens", "exit code"), row("---", "---", "---")]
    lines += [row(what, case[-1], "0") for what, case in FINE.items()]
    lines += [
        "",
        "Damaged images stop a run before it starts. With `data.on_bad_image: skip` in the recipe they are left out instead,",
        "and every run says which and how many. Each file is decoded once, for this and for the run; the good ones are remembered.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "errors.md").write_text(table(), encoding="utf-8")
