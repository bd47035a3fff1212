from __future__ import annotations

import bz2
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.digits import digits

DATA = Path(os.environ.get("DAKIT_DATA") or Path(__file__).parents[4] / "shared" / "data") / "digits"
real = pytest.mark.skipif(
    not (DATA / "usps.npz").is_file() or not (DATA / "mnist_t10k.npz").is_file(),
    reason=f"usps.npz and mnist_t10k.npz are not in {DATA} (set DAKIT_DATA)",
)


def some(n: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, side, side), dtype=np.uint8), np.arange(n) % 10


def write_npz(path: Path, side: int) -> None:
    (a, b), (c, d) = some(20, side, 0), some(10, side, 1)
    np.savez(path, X_train=a, y_train=b, X_test=c, y_test=d)


def write_raw(root: Path) -> None:
    (root / "MNIST" / "raw").mkdir(parents=True)
    for stem, n, seed in (("train", 20, 2), ("t10k", 10, 3)):
        x, y = some(n, 28, seed)
        images = struct.pack(">4i", 0x0803, n, 28, 28) + x.tobytes()
        labels = struct.pack(">2i", 0x0801, n) + y.astype(np.uint8).tobytes()
        (root / "MNIST" / "raw" / f"{stem}-images-idx3-ubyte").write_bytes(images)
        (root / "MNIST" / "raw" / f"{stem}-labels-idx1-ubyte").write_bytes(labels)


def write_libsvm(root: Path) -> None:
    for name, n, seed in (("usps.bz2", 12, 4), ("usps.t.bz2", 10, 5)):
        x, y = some(n, 16, seed)
        lines = [
            f"{label + 1} " + " ".join(f"{i + 1}:{v / 127.5 - 1:.6f}" for i, v in enumerate(pixels)) + " \n"
            for pixels, label in zip(x.reshape(n, -1), y, strict=True)
        ]
        (root / name).write_bytes(bz2.compress("".join(lines).encode()))


def test_npz_at_its_own_size_is_unchanged(tmp_path: Path) -> None:
    write_npz(tmp_path / "usps.npz", 16)
    images = digits(16, None, root=Folder(tmp_path), which="usps")
    (a, b), (c, d) = some(20, 16, 0), some(10, 16, 1)
    assert images.classes == tuple("0123456789")
    assert images.parts == ["train"] * 20 + ["test"] * 10
    assert list(images.labels) == [*b, *d]
    assert len(set(images.groups)) == 30
    for i, pixels in enumerate([*a, *c]):
        assert images[i].image.dtype == torch.uint8
        assert (images[i].image.numpy() == pixels[None]).all()


@pytest.mark.parametrize("size", [8, 24])
def test_resizing_agrees_with_pillow(tmp_path: Path, size: int) -> None:
    write_npz(tmp_path / "usps.npz", 16)
    images = digits(size, None, root=Folder(tmp_path), which="usps", part="test")
    for i, pixels in enumerate(some(10, 16, 1)[0]):
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
        assert images[i].image.shape == (3, size, size)
        assert np.abs(images[i].image.numpy().astype(int) - expected[None]).max() <= 1


def test_mnist_raw_agrees_with_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import MNIST

    write_raw(tmp_path)
    for part in ("train", "test"):
        images = digits(28, None, root=Folder(tmp_path), which="mnist", part=part)  # type: ignore[arg-type]
        theirs = MNIST(tmp_path, train=part == "train")
        assert list(images.labels) == theirs.targets.tolist()
        assert torch.equal(torch.as_tensor(images.images)[:, 0], theirs.data)


def test_usps_lines_agree_with_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import USPS

    write_libsvm(tmp_path)
    for part in ("train", "test"):
        images = digits(16, None, root=Folder(tmp_path), which="usps", part=part)  # type: ignore[arg-type]
        theirs = USPS(str(tmp_path), train=part == "train")
        assert list(images.labels) == theirs.targets
        assert (torch.as_tensor(images.images)[:, 0].numpy() == theirs.data).all()


def test_torchvisions_files_come_before_npz(tmp_path: Path) -> None:
    write_raw(tmp_path)
    write_npz(tmp_path / "mnist.npz", 28)
    images = digits(28, None, root=Folder(tmp_path), which="mnist", part="test")
    assert (images[0].image[0].numpy() == some(10, 28, 3)[0][0]).all()
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    images = digits(28, None, root=Folder(tmp_path), which="mnist", part="test")
    assert (images[0].image[0].numpy() == some(10, 28, 1)[0][0]).all()


def test_small_letters_in_npz(tmp_path: Path) -> None:
    x, y = some(10, 28, 0)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert len(digits(28, None, root=Folder(tmp_path), which="mnist")) == 20


def test_the_ten_thousand_alone_are_the_test_part(tmp_path: Path) -> None:
    x, y = some(10, 28, 0)
    np.savez(tmp_path / "mnist_t10k.npz", X=x, y=y)
    for part in ("test", "all"):
        images = digits(28, None, root=Folder(tmp_path), which="mnist", part=part)  # type: ignore[arg-type]
        assert images.parts == ["test"] * 10
    with pytest.raises(DakitError, match=r"no mnist with the part train; .*train-images-idx3-ubyte with .*mnist.npz$"):
        digits(28, None, root=Folder(tmp_path), which="mnist", part="train")


def test_classes_of_the_recipe(tmp_path: Path) -> None:
    write_npz(tmp_path / "usps.npz", 16)
    order = [*"9876543210"]
    images = digits(16, order, root=Folder(tmp_path), which="usps", part="test")
    assert [order[k] for k in images.labels] == [*"0123456789"]
    with pytest.raises(DakitError, match=r'"0" \(3 images\), .*"9" \(3 images\): not among the classes 3, 8'):
        digits(16, ["3", "8"], root=Folder(tmp_path), which="usps")
    images = digits(16, ["3", "8"], root=Folder(tmp_path), which="usps", ignore=[*"01245679"])
    assert images.parts == ["train"] * 4 + ["test"] * 2
    assert list(images.labels) == [0, 1] * 3
    assert (images[5].image[0].numpy() == some(10, 16, 1)[0][8]).all()


def test_missing_folder_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(DakitError, match="the environment variable NOWHERE is not set; expected the files of usps"):
        digits(16, None, root=Folder("$NOWHERE"), which="usps")
    with pytest.raises(DakitError, match=r"looked for .*usps\.bz2, .*usps\.npz, .*usps\.t\.bz2, .*usps\.npz$"):
        digits(16, None, root=Folder(tmp_path), which="usps")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("usps.npz", b""),
        ("usps.npz", b"not an archive"),
        ("usps.npz", b"PK\x03\x04 cut off"),
        ("usps.t.bz2", b"not compressed"),
        ("usps.t.bz2", bz2.compress(b"3 1:0.5 2:-1\n")),
        ("usps.t.bz2", bz2.compress(b"3 1:half\n")),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DakitError, match=f"{name}: "):
        digits(16, None, root=Folder(tmp_path), which="usps", part="test")


def test_an_empty_file_holds_no_images(tmp_path: Path) -> None:
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b""))
    with pytest.raises(DakitError, match="holds no images"):
        digits(16, None, root=Folder(tmp_path), which="usps")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 16, 16), np.float32), np.zeros(2, int), "expected images uint8"),
        (np.zeros((2, 256), np.uint8), np.zeros(2, int), "expected images uint8"),
        (np.zeros((2, 16, 16), np.uint8), np.zeros(3, int), "expected images uint8"),
        (np.zeros((2, 16, 16), np.uint8), np.array([1, 10]), "the labels must be 0 to 9"),
        (np.zeros((2, 16, 16), np.uint8), np.array([None, None]), "damaged, or not in the form"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "usps.npz", X_test=x, y_test=y)
    with pytest.raises(DakitError, match=f"usps.npz: {message}"):
        digits(16, None, root=Folder(tmp_path), which="usps", part="test")


def test_a_cut_off_idx_file_is_named(tmp_path: Path) -> None:
    write_raw(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for content in (file.read_bytes()[:-1], b"\0\0\x08", b"\x1f\x8b\x08\x00"):
        file.write_bytes(content)
        with pytest.raises(DakitError, match="train-images-idx3-ubyte: damaged"):
            digits(28, None, root=Folder(tmp_path), which="mnist", part="train")


@real
def test_real_files_have_the_published_counts() -> None:
    usps = digits(16, None, root=Folder(DATA), which="usps")
    assert usps.parts is not None
    assert (usps.parts.count("train"), usps.parts.count("test")) == (7291, 2007)
    train = np.array(usps.labels)[:7291]
    assert np.bincount(train).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    mnist = digits(16, None, root=Folder(DATA), which="mnist", part="test")
    assert np.bincount(mnist.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    with pytest.raises(DakitError, match="no mnist with the part train"):
        digits(16, None, root=Folder(DATA), which="mnist", part="train")
