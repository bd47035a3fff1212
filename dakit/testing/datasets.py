"""The contract of datasets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from dakit.data.sets import fingerprint
from dakit.interfaces import ImageSet, Spec
from dakit.optional import HasParts, near, offers
from dakit.testing.contract import FIRST, Check, wanted

SIZE = 32


def fresh_set(spec: Spec[Any], size: int = SIZE, classes: tuple[str, ...] | None = None) -> ImageSet:
    """The set, of the classes that it finds itself unless told."""
    images: ImageSet = spec.build(size, classes)
    return images


def can_be_counted_without_decoding(spec: Spec[Any]) -> None:
    """labels, groups (and `parts` where there are any): one per image; labels index `classes`, -1 = none."""
    images = fresh_set(spec)
    n = len(images)
    wanted(n > 0, "it holds no image")
    for name in ("labels", "groups", "parts"):
        given = getattr(images, name, None)
        wanted(name == "parts" or given is not None, f"it has no {name}")
        wanted(given is None or len(given) == n, f"{n} images, but {len(given or ())} {name}")
    like = [name for name, value in vars(images).items() if near(name, "parts") and isinstance(value, (list, tuple))]
    wanted(offers(images, HasParts) or not like, f"it has no parts, but `{''.join(like[:1])}`: did you mean `parts`?")
    wanted(isinstance(images.classes, tuple), f"classes are a {type(images.classes).__name__}, not a tuple")
    wanted(all(-1 <= label < len(images.classes) for label in images.labels), "a label is not an index of classes")


def gives_uint8_images_of_the_size_asked_for(spec: Spec[Any]) -> None:
    """A Sample: uint8 (3, size, size), with the label and group that the lists say: images are scaled on the device."""
    for size in (SIZE, SIZE + 8):
        images = fresh_set(spec, size)
        for index in {0, len(images) // 2, len(images) - 1}:
            image, label, group = images[index]
            wanted(image.dtype == torch.uint8, f"image {index} is {image.dtype}")
            wanted(tuple(image.shape) == (3, size, size), f"size {size} gave {tuple(image.shape)}")
            wanted(label == images.labels[index], f"image {index} has label {label}, labels says otherwise")
            wanted(group == images.groups[index], f"image {index} has group {group!r}, groups says otherwise")


def gives_the_same_image_again(spec: Spec[Any]) -> None:
    """Read twice, from another thread, or in another process's set: the same pixels, so that a run can go on."""
    images, other = fresh_set(spec), fresh_set(spec)
    few = list(range(min(4, len(images))))
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda i: images[i].image, few * 3))
    for place, image in zip(few * 3, read, strict=True):
        wanted(torch.equal(image, images[place].image), f"image {place} differs from thread to thread")
        wanted(torch.equal(image, other[place].image), f"image {place} differs in a second set of the same parameters")


def belongs_to_its_reader(spec: Spec[Any]) -> None:
    """Batches are changed in place on their way: a change of a returned image changes nothing in the set."""
    images = fresh_set(spec)
    before = images[0].image.clone()
    images[0].image.zero_()
    wanted(torch.equal(images[0].image, before), "changing an image changed the set")


def numbers_classes_as_told(spec: Spec[Any]) -> None:
    """All domains of a recipe count alike: given its classes in reverse, labels still name the same classes."""
    images = fresh_set(spec)
    if images.classes:
        turned = fresh_set(spec, classes=tuple(reversed(images.classes)))
        wanted(turned.classes == tuple(reversed(images.classes)), f"asked for reversed classes, got {turned.classes}")
        first, second = ([s.classes[label] if label >= 0 else "" for label in s.labels] for s in (images, turned))
        wanted(sorted(first) == sorted(second), "an image changed its class by name")


def has_one_fingerprint(spec: Spec[Any]) -> None:
    """Results are found again by it: equal for equal data, another for another size."""
    wanted(
        fingerprint(fresh_set(spec)) == fingerprint(fresh_set(spec)),
        "two sets of the same parameters have two fingerprints",
    )
    wanted(
        fingerprint(fresh_set(spec)) != fingerprint(fresh_set(spec, SIZE + 8)), "another size has the same fingerprint"
    )


CHECKS: tuple[Check, ...] = (
    *FIRST, can_be_counted_without_decoding, gives_uint8_images_of_the_size_asked_for,
    gives_the_same_image_again, belongs_to_its_reader, numbers_classes_as_told, has_one_fingerprint,
)  # fmt: skip
