from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import File, Folder
from dakit_builtins.datasets.manifest import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for name in ("a.png", "b.png", "sub/c, d.png", "../outside.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(folder / name)
    return folder


def read(
    folder: Path,
    text: str | bytes,
    classes: list[str] | None = None,
    ignore: tuple[str, ...] = (),
    outside: bool = False,
    group_by: str | None = None,
) -> FileImages:
    file = folder / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest(2, classes, file=File(file), ignore=ignore, outside=outside, group_by=group_by)


def test_all_columns_in_the_order_of_the_file(folder: Path) -> None:
    images = read(
        folder,
        "split,label,path,group,age\n"
        "test,sad,b.png,bert,3\n"
        "train,happy,a.png,anna,4\n"
        'train,sad,"sub/c, d.png",anna,5\n',
    )
    assert images.paths == [folder / "b.png", folder / "a.png", folder / "sub" / "c, d.png"]
    assert images.classes == ("happy", "sad")
    assert list(images.labels) == [1, 0, 1]
    assert list(images.groups) == ["bert", "anna", "anna"]
    assert images.parts == ["test", "train", "train"]


def test_byte_order_mark_crlf_blank_lines_and_spaces(folder: Path) -> None:
    text = b'\xef\xbb\xbfpath, label\r\n\r\na.png, x\r\n"b.png","y"\r\n'
    images = read(folder, text)
    assert [path.name for path in images.paths] == ["a.png", "b.png"]
    assert images.classes == ("x", "y")
    assert images.parts is None


def test_without_labels(folder: Path) -> None:
    for text in ("path\na.png\nb.png\n", "path,label\na.png,\nb.png,\n"):
        images = read(folder, text, ["x", "y"])
        assert images.classes == ()
        assert list(images.labels) == [-1, -1]


def test_some_labels(folder: Path) -> None:
    images = read(folder, "path,label\na.png,\nb.png,y\n", ["x", "y"])
    assert images.classes == ("x", "y")
    assert list(images.labels) == [-1, 1]


def test_rows_of_one_path_share_a_group(folder: Path) -> None:
    images = read(folder, "path,group\na.png,\nb.png,\na.png,\n./b.png,bert\n")
    first, second, third, fourth = images.groups
    assert first == third
    assert len({first, second, fourth}) == 3


def test_ignored_rows_need_no_file_and_strange_labels_are_counted(folder: Path) -> None:
    text = "path,label\na.png,x\nb.png,z\nlost.png,z\n"
    with pytest.raises(DakitError, match=r'"z" \(2 images\): not among the classes x, y'):
        read(folder, text, ["x", "y"])
    assert [path.name for path in read(folder, text, ["x", "y"], ("z",)).paths] == ["a.png"]


def test_missing_files_are_told_at_once(folder: Path) -> None:
    rows = "".join(f"lost{i}.png\n" for i in range(7))
    with pytest.raises(DakitError, match=r"7 of 8 images are missing:(\n  .*lost\d\.png){5}\n  \.\.\.$"):
        read(folder, f"path\na.png\n{rows}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\n", r':1: there is no column "path", only: file, label'),
        ("", ':1: there is no column "path"'),
        ("path,Label\na.png,x\n", r':1: column "Label": did you mean "label"\?'),
        ("path,groups\na.png,x\n", r':1: column "groups": did you mean "group"\?'),
        ("path,label,label\na.png,x,y\n", ':1: the column "label" stands there twice'),
        ("path,label\na.png,x\nb.png\n", ":3: 1 cells, but the header has 2"),
        ("path,label\na.png,x\nb.png,x,y\n", ":3: 3 cells, but the header has 2"),
        ("path,label\n,x\n", ":2: the path is empty"),
        ("path,split\na.png,train\nb.png,\n", r":3: the split is empty \(in 1 rows\)"),
        ('path\n"a.png\n', "cannot be read as a CSV file in UTF-8"),
        (b"path\ncaf\xe9.png\n", "cannot be read as a CSV file in UTF-8"),
        ("path,label\n", "holds no images"),
    ],
)
def test_malformed_files_are_refused(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DakitError, match=message):
        read(folder, text)


def test_an_image_has_one_label(folder: Path) -> None:
    text = "path,label\na.png,x\nb.png,y\na.png,x\nb.png,x\nsub/../a.png,\n"
    with pytest.raises(DakitError, match=r':5: b\.png has two labels: "x", but "y" in line 3; one of them is wrong'):
        read(folder, text)
    with pytest.raises(DakitError, match=r':3: a\.png has two labels: empty, but "x" in line 2 \(and 1 more rows'):
        read(folder, "path,label\na.png,x\na.png,\na.png,y\n")
    assert list(read(folder, "path,label\na.png,x\na.png,x\n").labels) == [0, 0]


def test_groups_may_be_captured_from_the_listed_path(folder: Path) -> None:
    rows = 'path\n"sub/c, d.png"\na.png\n'
    assert list(read(folder, rows, group_by="^(.)").groups) == ["c", "a"]
    assert list(read(folder, 'path\n"sub/c, d.png"\n', group_by="^(.+)/").groups) == ["sub"]
    with pytest.raises(DakitError, match=r"finds nothing in 1 paths, such as a\.png"):
        read(folder, rows, group_by="^(.+)/")
    with pytest.raises(DakitError, match="it has a column `group`; leave it or `group_by` out"):
        read(folder, "path,group\na.png,x\n", group_by="^(.)")


def test_paths_stay_inside_unless_allowed(folder: Path) -> None:
    for given in ("../outside.png", "sub/../../outside.png", str(folder.parent / "outside.png"), str(folder / "a.png")):
        text = f"path\na.png\n{given}\n"
        with pytest.raises(DakitError, match=r":3: .*png is absolute or leads out of .*`outside: true`"):
            read(folder, text)
        assert len(read(folder, text, outside=True)) == 2
    assert len(read(folder, "path\nsub/../a.png\n")) == 1


def test_a_relative_root_does_not_open_the_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "list.csv").write_text("path\n../outside.png\n")
    with pytest.raises(DakitError, match="leads out of"):
        manifest(2, None, file=File("list.csv"))


def test_root_may_be_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.csv").write_text("path\na.png\n")
    monkeypatch.setenv("HERE", str(tmp_path))
    images = manifest(2, None, file=File("$HERE/list.csv"), root=Folder("$HERE/set"))
    assert images.paths == [folder / "a.png"]
    with pytest.raises(DakitError, match=r"lost: there is no such folder; expected the images that .*list.csv lists"):
        manifest(2, None, file=File("$HERE/list.csv"), root=Folder("$HERE/lost"))
    with pytest.raises(DakitError, match=r"lost.csv: there is no such file; expected a CSV file with the columns path"):
        manifest(2, None, file=File("$HERE/lost.csv"))
    monkeypatch.delenv("HERE")
    with pytest.raises(DakitError, match="the environment variable HERE is not set"):
        manifest(2, None, file=File("$HERE/list.csv"))


def test_parts_in_the_column_of_labels_are_refused(folder: Path) -> None:
    with pytest.raises(DakitError, match=r"list.csv: holds test and train where class folders are expected"):
        read(folder, "path,label\na.png,train\nb.png,test\n")
