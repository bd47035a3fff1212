from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.image_folder import image_folder


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (200, 10, 30)).save(path, format="PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    write(root / "dog" / "anna_1.png", root / "dog" / "deep" / "bert_1.PNG", root / "cat" / "anna_2.Jpeg")
    return root


def test_labels_are_the_folders_sorted(root: Path) -> None:
    images = image_folder(2, None, root=Folder(root))
    assert images.classes == ("cat", "dog")
    assert [(path.name, images.classes[k]) for path, k in zip(images.paths, images.labels, strict=True)] == [
        ("anna_2.Jpeg", "cat"),
        ("anna_1.png", "dog"),
        ("bert_1.PNG", "dog"),
    ]
    assert len(set(images.groups)) == 3
    assert images[0].image[:, 0, 0].tolist() == [200, 10, 30]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "Test"), ("training_set", "test_set"), ("train",)])
@pytest.mark.parametrize("classes", [None, "all"])
def test_parts_that_hold_class_folders_are_not_classes(
    tmp_path: Path, names: tuple[str, ...], classes: str | None
) -> None:
    write(*(tmp_path / part / name / "0.png" for part in names for name in ("cat", "dog")))
    with pytest.raises(DakitError, match=rf"{' and '.join(sorted(names))} where class folders are expected"):
        image_folder(2, classes and sorted(names), root=Folder(tmp_path))
    inside = image_folder(2, None, root=Folder(tmp_path / names[0]))
    assert inside.classes == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path / "train" / "0.png", tmp_path / "tram" / "0.png")
    assert image_folder(2, None, root=Folder(tmp_path)).classes == ("train", "tram")


def test_labels_follow_the_recipes_classes(root: Path) -> None:
    images = image_folder(2, ["dog", "emu", "cat"], root=Folder(root))
    assert images.classes == ("dog", "emu", "cat")
    assert list(images.labels) == [2, 0, 0]


def test_order_does_not_hang_on_the_order_of_the_listing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = image_folder(2, None, root=Folder(root)).paths
    walk, iterdir = os.walk, Path.iterdir
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((p, d, n[::-1]) for p, d, n in list(walk(*a, **k))[::-1]))
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(list(iterdir(self))[::-1]))
    assert image_folder(2, None, root=Folder(root)).paths == expected


def test_hidden_foreign_and_stray_files_are_passed_over(root: Path) -> None:
    write(root / "cat" / ".hidden.png", root / ".git" / "x.png", root / "cat" / ".trash" / "y.png", root / "z.png")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "dog" / "deep" / "phone.HEIC").write_bytes(b"x")
    (root / "dog" / "README").write_text("no image")
    images = image_folder(2, None, root=Folder(root))
    assert len(images) == 3
    assert images.passed_over == {".txt": 1, ".heic": 1, "no suffix": 1, "in no class folder": 1}
    assert image_folder(2, None, root=Folder(root), ignore=["cat"]).passed_over == {
        ".heic": 1, "no suffix": 1, "in no class folder": 1,
    }  # fmt: skip
    for path in images.paths:
        path.unlink()
    message = r"holds no images in class folders, but 4 files: \.heic 1, \.txt 1, in no class folder 1, no suffix 1"
    with pytest.raises(DakitError, match=message):
        image_folder(2, None, root=Folder(root))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPEG", "avif", "webp", "mpo", "pbm", "pnm", "ppm", "TIFF"])
def test_what_pillow_reads_is_an_image(root: Path, suffix: str) -> None:
    Image.new("RGB", (4, 4), (200, 10, 30)).save(root / "cat" / f"x.{suffix}")
    images = image_folder(2, None, root=Folder(root))
    assert len(images) == 4
    (place,) = [i for i, path in enumerate(images.paths) if path.stem == "x"]
    assert images[place].image.shape == (3, 2, 2)
    assert not images.passed_over


def test_folders_below_a_class_may_be_groups(root: Path) -> None:
    write(root / "cat" / "v1" / "0.png", root / "cat" / "v1" / "1.png", root / "cat" / "v2" / "0.png")
    images = image_folder(2, None, root=Folder(root), ignore=["dog"], group_by=r"(?:^|/)([^/]+)/[^/]+$")
    assert [(p.parent.name, g) for p, g in zip(images.paths, images.groups, strict=True)] == [
        ("cat", "cat"), ("v1", "v1"), ("v1", "v1"), ("v2", "v2"),
    ]  # fmt: skip
    with pytest.raises(DakitError, match=r"finds nothing in 1 paths, such as cat/anna_2\.Jpeg"):
        image_folder(2, None, root=Folder(root), ignore=["dog"], group_by=r"^[^/]+/([^/]+)/")


def test_the_range_is_that_of_the_values(root: Path) -> None:
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 273
    Image.fromarray(values).save(root / "cat" / "deep.png")
    images = image_folder(4, None, root=Folder(root), range=[0, 4095])
    place = [path.name for path in images.paths].index("deep.png")
    assert (images[place].image.numpy() == values >> 4).all()


def test_a_linked_class_folder_is_read_but_circles_end(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "e.png")
    (root / "emu").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    assert len(image_folder(2, None, root=Folder(root))) == 4


def test_a_folder_that_cannot_be_listed_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DakitError, match="deep: cannot be listed: Permission denied"):
        image_folder(2, None, root=Folder(root))


def test_a_label_that_is_no_class_is_counted_and_named(root: Path) -> None:
    with pytest.raises(DakitError, match=r'pets: "dog" \(2 images\): not among the classes cat, emu'):
        image_folder(2, ["cat", "emu"], root=Folder(root))
    assert len(image_folder(2, ["cat", "emu"], root=Folder(root), ignore=["dog"])) == 1
    assert image_folder(2, None, root=Folder(root), ignore=["dog"]).classes == ("cat",)


def test_groups_come_from_the_file_name(root: Path) -> None:
    images = image_folder(2, None, root=Folder(root), group_by=r"^([a-z]+)_")
    assert list(images.groups) == ["anna", "anna", "bert"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a regular expression: missing"),
        ("anna", "must capture one group in parentheses, not 0"),
        ("(a)(b)", "must capture one group in parentheses, not 2"),
        ("^(anna)", "finds nothing in 1 names, such as .*bert_1.PNG"),
        ("^(x?)", "finds nothing in 3 names"),
    ],
)
def test_a_group_pattern_that_does_not_serve_is_refused(root: Path, pattern: str, message: str) -> None:
    with pytest.raises(DakitError, match=message):
        image_folder(2, None, root=Folder(root), group_by=pattern)


def test_missing_and_empty_folders_are_errors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PETS", raising=False)
    with pytest.raises(DakitError, match=r"\$PETS: the environment variable PETS is not set; .*<root>/<class>/"):
        image_folder(2, None, root=Folder("$PETS"))
    with pytest.raises(DakitError, match=r"nothing: there is no such folder; expected .*<root>/<class>/"):
        image_folder(2, None, root=Folder(root / "nothing"))
    (root / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DakitError, match=r"holds no images$"):
        image_folder(2, None, root=Folder(root / "empty"))
    with pytest.raises(DakitError, match=r"no images besides those to ignore: \['cat', 'dog'\]"):
        image_folder(2, None, root=Folder(root), ignore=["cat", "dog"])


def test_fit_is_passed_on(root: Path) -> None:
    # left third black, the rest white: the centred square of 3 x 1 is its middle third
    wide = Image.new("RGB", (12, 4), "white")
    wide.paste("black", (0, 0, 4, 4))
    wide.save(root / "cat" / "anna_2.Jpeg", format="PNG")
    assert image_folder(4, None, root=Folder(root))[0].image.float().mean() == 255
    squashed = image_folder(4, None, root=Folder(root), fit="squash")[0].image.float()
    assert abs(squashed.mean().item() - 255 * 2 / 3) < 6
