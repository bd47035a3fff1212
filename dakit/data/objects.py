"""Images that the caller has as objects (a torch ``Dataset``, tensors, arrays): read once, and kept as they were."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from dakit.data.deep import RangeUnknown, eight_bits
from dakit.data.sets import TensorImages, in_rgb, sized
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Sample

Array = npt.NDArray[Any]

_LOOKED_AT_TWICE = 32
"""Images, spread over a set: a flip at random, in one image of ten, is missed once in 600 times."""


def opener(given: Any) -> Callable[[int, Sequence[str] | None], ImageSet]:
    """A dataset's factory, which reads what the caller gives, see :func:`read_object`."""

    def here(size: int, classes: Sequence[str] | None) -> ImageSet:
        return read_object(given, size, classes)

    return here


def read_object(given: Any, size: int, classes: Sequence[str] | None) -> TensorImages:
    """A set of images from an object, every image of it read once.

    Args:
        given: one of

            - a tuple ``(images, labels)`` or ``(images, labels, groups)`` of tensors, arrays or lists of one length;
              labels may be None, numbers, or names of classes; or images alone, as one tensor or array ``(N, ...)``,
            - a ``torch.utils.data.Dataset``, or anything else with ``len`` and ``[i]``, of ``(image, label)`` or of
              images alone; its ``classes``, ``groups`` and ``parts``, where it has them, are taken over,
            - an :class:`~dakit.interfaces.ImageSet`.

            An image is a PIL image, or a tensor or array ``(3, H, W)``, ``(1, H, W)``, ``(H, W)`` or ``(H, W, 3)``:
            uint8, or floating-point in [0, 1], which becomes ``round(255 x)``. A label is a whole number or a name;
            -1 or None = none.
        size: of the images of the set, in pixels: of others the largest centred square is resized, as of files.
        classes: names in the order of the labels; None = those of ``given``.

    Returns:
        uint8 images in memory where they are given so, else in a temporary file that ends with the process.

    Raises:
        DakitError: it is none of these, an image or label is none, values are not in [0, 1], an image is another when
            it is read again (by a random transform), or labels have no names.
    """
    images, labels, about = _parts(given)
    count = len(images)
    if not count:
        raise DakitError("it is empty")
    pixels = _ready(images, size)
    if pixels is None:
        pixels, read = _read(images, size, labelled=labels is None)
        labels = read if labels is None else labels
        _look_twice(images, pixels, size)
    if labels is not None and len(labels) != count:
        raise DakitError(f"{count} images but {len(labels)} labels")
    numbers, names = _numbered(labels, about, classes, count)
    texts: dict[str, list[str] | None] = {"groups": None, "parts": None}
    for what in texts:
        if about.get(what) is not None:
            texts[what] = [str(value) for value in about[what]]
            if len(about[what]) != count:
                raise DakitError(f"{count} images but {len(about[what])} {what}")
    return TensorImages(pixels, numbers, texts["groups"], names, texts["parts"])


def _parts(given: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Images; labels, None where they come with the images; and what else is known of them."""
    if isinstance(given, tuple):
        if len(given) not in (2, 3):
            raise DakitError(f"expected (images, labels) or (images, labels, groups), not a tuple of {len(given)}")
        images, labels = given[:2]
        for what, value in (("images", images), *((("labels", labels),) if labels is not None else ())):
            if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or isinstance(value, (str, Mapping)):
                raise DakitError(f"{what}: expected a tensor, an array or a list, not a {type(value).__name__}")
        return images, [None] * len(images) if labels is None else labels, _listed("groups", [*given[2:]])
    if isinstance(given, (Tensor, np.ndarray)):
        return given, [None] * len(given) if given.ndim else None, {}
    if hasattr(given, "dataset") and hasattr(given, "batch_size"):
        raise DakitError("a DataLoader was given: give its dataset, dakit makes the batches")
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or isinstance(given, (str, bytes, Mapping)):
        raise DakitError(
            f"expected a Dataset with len() and [i], tensors (images, labels) or an ImageSet, not a {_kind(given)}"
        )
    about = {name: getattr(given, name) for name in ("classes", "groups", "parts") if hasattr(given, name)}
    below = given
    while "classes" not in about and hasattr(below, "dataset"):  # torch.utils.data.Subset
        below = below.dataset
        about |= {"classes": below.classes} if hasattr(below, "classes") else {}
    if callable(about.get("classes")) or isinstance(about.get("classes"), str):
        del about["classes"]
    if isinstance(given, TensorImages):
        return given.images, given.labels, about
    return given, None, about


def _listed(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {name: values[0]} if values else {}


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _ready(images: Any, size: int) -> Tensor | Array | None:
    """The images themselves where they are already as dakit keeps them."""
    if isinstance(images, (Tensor, np.ndarray)) and str(images.dtype).removeprefix("torch.") == "uint8":
        if tuple(images.shape[1:]) == (3, size, size):
            return images.cpu() if isinstance(images, Tensor) else images
    return None


def _read(images: Any, size: int, *, labelled: bool) -> tuple[Array, list[Any]]:
    """Every image as uint8 in a temporary file, and the labels that come with them."""
    labels: list[Any] = []
    try:
        with tempfile.TemporaryFile(prefix="dakit-") as file:
            for i in range(len(images)):
                image, label = _item(images, i) if labelled else (images[i], None)
                labels.append(label)
                file.write(_pixels(image, i, size).tobytes())
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(len(images), 3, size, size)), labels
    except OSError as error:
        raise DakitError(f"its images cannot be kept in {tempfile.gettempdir()} (TMPDIR): {error.strerror}") from error


def _item(images: Any, index: int) -> tuple[Any, Any]:
    try:
        item = images[index]
    except Exception as error:  # whatever the caller's object raises
        raise DakitError(f"item {index} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(item, Sample):
        return item.image, item.label
    if isinstance(item, (tuple, list)):
        if len(item) == 2:
            return item[0], item[1]
        if len(item) == 1:
            return item[0], None
        raise DakitError(f"item {index} has {len(item)} parts; expected (image, label), or an image alone")
    if isinstance(item, Mapping):
        raise DakitError(f"item {index} is a mapping with {', '.join(map(str, item))}; expected (image, label)")
    return item, None


def _pixels(image: Any, index: int, size: int) -> Array:
    """One image as uint8 ``(3, size, size)``."""
    if isinstance(image, Image.Image):
        try:
            return _bytes_of(sized(in_rgb(eight_bits(image, None)), size, "crop"))
        except RangeUnknown as error:
            why = f"it is of mode {image.mode}: give it as uint8, or as floating-point in [0, 1]"
            raise DakitError(f"image {index} has more than 8 bits a value: {why}") from error
        except Exception as error:  # a file that is decoded now, and is damaged
            raise DakitError(f"image {index} cannot be read: {error}") from error
    if not isinstance(image, (Tensor, np.ndarray)):
        raise DakitError(f"image {index}: expected a PIL image, a tensor or an array, not a {_kind(image)}")
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    shape = tuple(values.shape)
    if values.ndim == 2:
        values = values[None]
    first, last = (values.ndim == 3 and values.shape[axis] in (1, 3) for axis in (0, -1))
    if first == last:
        why = "channels could stand first or last" if first else "expected (3, H, W), (1, H, W), (H, W) or (H, W, 3)"
        raise DakitError(f"image {index} has the shape {shape}: {why}")
    values = values.transpose(2, 0, 1) if last else values
    if values.dtype.kind == "f":
        if not (values.min() >= 0 and values.max() <= 1):  # also where one is NaN
            raise DakitError(
                f"image {index} has values from {values.min():.4g} to {values.max():.4g}: floating-point images must "
                "be in [0, 1] (leave Normalize out: networks normalise for themselves), others uint8"
            )
        values = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise DakitError(f"image {index} is {values.dtype}: expected uint8, or floating-point in [0, 1]")
    values = np.repeat(values, 3, axis=0) if len(values) == 1 else values
    if values.shape[1:] == (size, size):
        return np.ascontiguousarray(values)
    return _bytes_of(sized(Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0))), size, "crop"))


def _bytes_of(image: Image.Image) -> Array:
    return np.asarray(image).transpose(2, 0, 1).copy()


def _look_twice(images: Any, pixels: Any, size: int) -> None:
    """Refuse what changes when it is read again: results could never be found again."""
    if isinstance(images, (Tensor, np.ndarray)):
        return
    for i in sorted(set(np.linspace(0, len(images) - 1, _LOOKED_AT_TWICE).astype(int).tolist())):
        again = _pixels(_item(images, i)[0], i, size)
        if not np.array_equal(again, pixels[i]):
            raise DakitError(
                f"image {i} is another one each time it is read (by a random transform?): give the set without "
                "augmentation, which stages do themselves (`augment`)"
            )


def _numbered(
    labels: Any, about: Mapping[str, Any], classes: Sequence[str] | None, count: int
) -> tuple[list[int], tuple[str, ...]]:
    """Every image's label as a number in the order of the classes, and these; none where no image has a label."""
    values = [_label(labels[i], i) for i in range(count)]
    named = {value for value in values if isinstance(value, str)}
    numbered = {value for value in values if not isinstance(value, str)} - {-1}
    if named and numbered:
        raise DakitError("some labels are numbers and some are names")
    own_classes = tuple(str(name) for name in about.get("classes") or ())
    if not named and not numbered:
        return values, ()  # type: ignore[return-value]
    if named:
        order = tuple(classes or own_classes or sorted(named))
        own_classes = tuple(sorted(named))
        values = [value if value == -1 else own_classes.index(str(value)) for value in values]
    else:
        order = tuple(classes or own_classes)
        if not order:
            most = max(numbered)
            raise DakitError(f"its labels are numbers (0 to {most}) and it has no `classes`: name them in data.classes")
    own_classes = own_classes or order
    if strange := [name for name in own_classes if name not in order]:
        raise DakitError(f"its classes {', '.join(strange)} are not among data.classes ({', '.join(order)})")
    if outside := sorted(n for n in set(values) if int(n) >= len(own_classes)):
        raise DakitError(
            f"the label {outside[0]} is not in 0 to {len(own_classes) - 1}, the numbers of {', '.join(own_classes)}"
        )
    place = [order.index(name) for name in own_classes]
    return [-1 if value == -1 else place[int(value)] for value in values], order


def _label(label: Any, index: int) -> int | str:
    """A label as a number or a name; -1 = none."""
    if isinstance(label, (Tensor, np.ndarray)) and label.ndim == 0:
        label = label.item()
    if label is None:
        return -1
    if isinstance(label, str):
        return label or -1
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool) and label >= -1:
        return int(label)
    raise DakitError(f"the label of image {index} is {label!r}: expected a number from 0 on, a name, or None for none")
