from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dakit.advice.starter import choose_size, choose_split, guess_roles, look, suggest_groups, usual_split
from dakit.data.parts import part_role
from dakit.data.sets import FileImages
from dakit.data.splits import Split
from dakit.errors import DakitError


def named(names: list[str], labels: list[int], groups: list[str] | None = None) -> FileImages:
    return FileImages([Path(name) for name in names], labels, groups, ("a", "b"), size=8)


def test_roles_are_guessed_by_whole_words(tmp_path):
    for name in ("Lab_images", "collaboration", "web-2019", "wild", "target2", ".source"):
        (tmp_path / name).mkdir()
    (tmp_path / "synthetic.csv").touch()
    (tmp_path / "web.txt").touch()
    found = {role: [place.name for place in places] for role, places in guess_roles(tmp_path).items()}
    assert found == {
        "source": ["Lab_images", "synthetic.csv"],
        "auxiliary": ["web-2019"],
        "target": ["target2", "wild"],
    }


def test_groups_are_suggested_only_where_names_repeat_across_each_class():
    people = [f"{person}_{i}.png" for person in ("anna", "bert") for i in range(4)]
    assert suggest_groups(named(people, [0, 1] * 4)) == (r"^([^_-]+)[_-]", 2)
    numbered = [f"img_{i}.png" for i in range(8)]
    assert suggest_groups(named(numbered, [0, 1] * 4)) is None
    by_class = [f"{name}_{i}.png" for name in ("a", "b") for i in range(4)]
    assert suggest_groups(named(by_class, [0] * 4 + [1] * 4)) is None
    films = [f"the_{film}_{i}.png" for film in ("hangover", "harry") for i in range(4)]
    assert suggest_groups(named(films, [0, 1] * 4)) == (r"^(.+)[_-]\d+\.", 2)


def test_the_split_is_as_fine_as_the_groups_allow():
    names = [f"{i}.png" for i in range(12)]
    labels = [0, 1] * 6
    assert choose_split(named(names, labels)) == {"folds": 5}
    assert choose_split(named(names, labels, list("aabbccaabbcc"))) == {"folds": 3}
    with pytest.raises(DakitError, match="target: it cannot be divided"):
        choose_split(named(names, labels, ["a"] * 12))


def published(*parts: str) -> FileImages:
    return FileImages(
        [Path(f"{i}.png") for i in range(12)], [0, 1] * 6, None, ("a", "b"), list(parts * 12)[:12], size=8
    )


@pytest.mark.parametrize(
    ("parts", "split"),
    [
        (("train", "test"), {"predefined": True}),
        (("train", "val", "test"), {"predefined": True}),
        (("Training", "PublicTest", "PrivateTest"), {"predefined": True}),
        (("Set 1", "Set 2"), {"folds": "predefined"}),
        (("fold0", "fold1", "fold2"), {"folds": "predefined"}),
        (("1", "2", "3"), {"folds": "predefined"}),
        (("A", "B"), {"folds": "predefined"}),
        (("train", "validation"), None),
        (("train", "test", "extra"), None),
        (("Set 1", "fold 2"), None),
        (("one", "two"), None),
        (("train",), None),
    ],
)
def test_published_parts_are_folds_only_where_they_are_called_so(parts, split):
    images = published(*parts)
    assert usual_split(images) == split
    if split:
        assert choose_split(images) == split
        trained = {images.parts[i] for i in Split(**split).apply(images, 0, 0)["train"]}
        assert not {part for part in trained if part_role(part) == "test"}


@pytest.mark.parametrize(
    ("parts", "tested", "split"),
    [
        (("train", "validation"), "validation", {"predefined": "validation"}),
        (("train", "validation"), "each", {"folds": "predefined"}),
        (("train", "validation"), "none", {"folds": 5}),
        (("train", "test", "extra"), "extra", {"predefined": "extra"}),
    ],
)
def test_the_part_to_test_on_is_as_it_was_said(parts, tested, split):
    assert choose_split(published(*parts), tested) == split


@pytest.mark.parametrize(
    ("parts", "tested", "said"),
    [
        (
            ("train", "test", "extra"),
            "each",
            "--test each: target: folds: predefined would learn from",
        ),
        (("train", "test"), "none", "--test none: target: images published for testing"),
        (
            ("train", "dev"),
            "dav",
            'dav: there is no such published part, did you mean "dev"',
        ),
    ],
)
def test_init_never_learns_from_what_is_published_for_testing(parts, tested, said):
    with pytest.raises(DakitError, match=re.escape(said)):
        choose_split(published(*parts), tested)


def test_look_counts_measures_and_says_what_cannot_be_read(tmp_path, registry):
    for name, count in (("a", 3), ("b", 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("L", (60 + 10 * i, 50), 90).save(tmp_path / name / f"{i}.png")
    (tmp_path / "b" / "torn.png").write_bytes((tmp_path / "b" / "0.png").read_bytes()[:40])
    found = look("source", tmp_path, registry)
    assert found.counts == {"a": 3, "b": 3}
    assert (found.unreadable, found.looked, found.grey, found.pixels) == (1, 6, 1.0, (70, 50))
    assert choose_size(found, None) == 48
    assert choose_size(found, 80.0) == 48
    assert choose_size(found, None, pretrained=True) == 96, "twice the side"


@pytest.mark.parametrize(("gigabytes", "size"), [(None, 64), (8.0, 128), (24.0, 256)])
def test_the_size_fits_the_machine(tmp_path, registry, gigabytes, size):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (400, 300), (9, 99, 9)).save(tmp_path / name / "0.png")
    found = look("target", tmp_path, registry)
    assert choose_size(found, gigabytes) == size
    assert choose_size(found, gigabytes, pretrained=True) == max(size, 128)


def test_a_folder_of_parts_is_not_taken_for_classes(tmp_path, registry):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    with pytest.raises(DakitError, match=r"target: .*test and train where class folders are expected"):
        look("target", tmp_path, registry)


def test_folders_below_the_classes_are_suggested_as_groups():
    videos = [f"real/{name}/{video}/{i}.png" for name in "ab" for video in ("v0", "v1") for i in range(3)]
    pattern = r"^[^/]+/([^/]+)/"
    assert suggest_groups(named(videos, [0] * 6 + [1] * 6)) == (pattern, 2)
    assert [re.search(pattern, "/".join(Path(name).parts[1:]))[1] for name in videos[:4]] == ["v0", "v0", "v0", "v1"]
    flat = [f"real/{name}/{i}.png" for name in "ab" for i in range(6)]
    assert suggest_groups(named(flat, [0] * 6 + [1] * 6)) is None
    one_each = [f"real/{name}/v{i}/x.png" for name in "ab" for i in range(6)]
    assert suggest_groups(named(one_each, [0] * 6 + [1] * 6)) == (pattern, 6)  # v0 of a and v0 of b: safe, and told


def test_look_tells_of_a_range_of_labels_and_of_what_is_passed_over(tmp_path, registry):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(2):
            values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
            Image.fromarray(values).save(tmp_path / "set" / name / f"{i}.png")
    (tmp_path / "set" / "a" / "x.heic").touch()
    with pytest.raises(
        DakitError, match=r"^source: .*such as `range: \[0, 4095\]`; for init: --range source=BLACK,WHITE"
    ):
        look("source", tmp_path / "set", registry)
    found = look("source", tmp_path / "set", registry, {"range": [0, 4095]})
    assert (found.unreadable, found.unlabelled, found.passed_over) == (0, "", "1 file: .heic 1")
    assert found.params["range"] == [0, 4095]
    rows = [f"set/{name}/{i}.png,{name if i else ''}" for name in "ab" for i in range(2)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows, ""]))
    found = look("source", tmp_path / "list.csv", registry, {"range": [0, 4095]})
    paths = ", ".join(str(tmp_path / "set" / name / "0.png") for name in "ab")
    assert found.unlabelled == f"2 of 4 images have no label: {paths}"
    assert look("auxiliary", tmp_path / "list.csv", registry, {"range": [0, 4095]}).unlabelled == ""
