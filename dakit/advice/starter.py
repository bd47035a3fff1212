"""A first recipe for one's own images: look at what is there, then write sizes that fit it and the machine.

What is seen of the images decides every value; the text around them is ``templates/init.yaml.jinja``.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from PIL import Image

from dakit.data.deep import RangeUnknown
from dakit.data.files import captured_groups, told_of
from dakit.data.parts import part_role
from dakit.data.sets import FileImages, read_image, unlabelled_among
from dakit.data.splits import Split, own_groups
from dakit.errors import DakitError
from dakit.interfaces import File, Folder
from dakit.registry import Registry

if TYPE_CHECKING:
    from jinja2 import Template

ROLES: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "src", "lab", "studio", "clean", "synthetic", "simulated", "simulation", "sim", "controlled"),
    "auxiliary": ("auxiliary", "aux", "web", "internet", "unlabelled", "unlabeled"),
    "target": ("target", "tgt", "wild", "real", "field", "deploy"),
}
"""What folders of a role are often called."""

_SIZES = (32, 48, 64, 96, 128, 192, 256)
_LOOK_AT = 200


@dataclass(frozen=True)
class Found:
    """What was found of one role.

    Attributes:
        role: source, auxiliary or target.
        path: the folder or CSV file.
        params: of the dataset in the recipe, with ``use``.
        images: all of them.
        counts: images by class; empty for an auxiliary set.
        pixels: the median width and height of up to 200 images that were looked at.
        smallest: the 10th percentile of their shorter sides.
        grey: the fraction of them without colour.
        unreadable: how many of them cannot be read.
        looked: how many were looked at.
        unlabelled: which images of a labelled role have no label, for people; "" = each has one.
        passed_over: what lies beside the images and is none, for people.
    """

    role: str
    path: Path
    params: Mapping[str, Any]
    images: FileImages = field(repr=False)
    counts: Mapping[str, int]
    pixels: tuple[int, int]
    smallest: int
    grey: float
    unreadable: int
    looked: int
    unlabelled: str = ""
    passed_over: str = ""

    @property
    def groups(self) -> int:
        """How many groups of more than one image there are, and 0 where every image is its own."""
        names = set(own_groups(self.images.groups, range(len(self.images))))
        return len(names) if len(names) < len(self.images) else 0

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "role": self.role, "path": str(self.path), "images": len(self.images), "classes": dict(self.counts),
            "groups": self.groups, "width": self.pixels[0], "height": self.pixels[1], "grey": round(self.grey, 2),
            "unreadable": self.unreadable, "looked_at": self.looked, "unlabelled": self.unlabelled,
            "passed_over": self.passed_over,
        }  # fmt: skip


def guess_roles(folder: Path) -> dict[str, list[Path]]:
    """Folders and CSV files of ``folder`` by the role that their names speak of: ``web_photos`` is auxiliary.

    >>> guess_roles(Path("/nowhere"))
    {'source': [], 'auxiliary': [], 'target': []}
    """
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    places = [p for p in places if not p.name.startswith(".") and (p.is_dir() or p.suffix.lower() == ".csv")]
    words = {place: set(re.split(r"[^a-z]+", place.stem.lower())) for place in places}
    return {role: [place for place in places if words[place] & set(names)] for role, names in ROLES.items()}


def look(role: str, path: Path, registry: Registry, more: Mapping[str, Any] | None = None) -> Found:
    """Open a folder or a CSV file as the recipe will, and look at up to 200 of its images.

    Args:
        role: source and target need class folders or labels; auxiliary takes any folder.
        path: of a folder or a CSV file.
        registry: where the datasets are found.
        more: further parameters of the dataset, such as ``group_by`` and ``range``.

    Raises:
        DakitError: it cannot be opened, a labelled role has no labels, or files of more than 8 bits need ``range``.
    """
    place = str(path.absolute())
    if path.is_file():
        params: dict[str, Any] = {"use": "manifest", "file": place}
        if role == "auxiliary":
            params["unlabelled"] = True
    elif role == "auxiliary":
        params = {"use": "web_faces", "root": [place]}
    else:
        params = {"use": "image_folder", "root": place}
    params |= more or {}
    try:
        given = {name: value for name, value in params.items() if name not in ("use", "unlabelled")}
        images = registry.spec("dataset", params["use"], _typed(given)).build(32, None)
    except DakitError as error:
        raise DakitError(f"{role}: {error}") from error
    counts = Counter(images.classes[label] for label in images.labels if label >= 0) if role != "auxiliary" else {}
    if role != "auxiliary" and len(counts) < 2:
        raise DakitError(
            f"{role}: {path} has {len(counts) or 'no'} classes, expected at least two: one folder per class, or a CSV "
            "file with the columns path,label"
        )
    n = min(_LOOK_AT, len(images))
    try:
        seen = [_seen(images.paths[i * len(images) // n], images.range) for i in range(n)]
    except RangeUnknown as error:
        raise DakitError(f"{role}: {error}; for init: --range {role}=BLACK,WHITE") from error
    good = [look for look in seen if look is not None]
    if not good:
        raise DakitError(f"{role}: {path}: none of the {n} images that were looked at can be read")
    return Found(
        role, path, params, images, counts,
        pixels=(int(median(w for w, _, _ in good)), int(median(h for _, h, _ in good))),
        smallest=sorted(min(w, h) for w, h, _ in good)[len(good) // 10],
        grey=sum(grey for _, _, grey in good) / len(good),
        unreadable=n - len(good), looked=n, unlabelled=unlabelled_among(images) if counts else "",
        passed_over=told_of(images.passed_over),
    )  # fmt: skip


def _typed(params: Mapping[str, Any]) -> dict[str, Any]:
    """Text as the paths that the datasets' signatures ask for."""
    typed = dict(params)
    if "file" in typed:
        typed["file"] = File(typed["file"])
    if "root" in typed:
        root = typed["root"]
        typed["root"] = [Folder(place) for place in root] if isinstance(root, list) else Folder(root)
    return typed


def _seen(path: Path, stated: Sequence[float] | None) -> tuple[int, int, bool] | None:
    """Width, height and whether it has no colour; None = cannot be read."""
    try:
        small = read_image(path, 32, "squash", stated)
        with Image.open(path) as opened:
            size = opened.size
    except RangeUnknown:
        raise
    except (DakitError, OSError):
        return None
    return *size, bool((small[0] == small[1]).all() and (small[1] == small[2]).all())


def suggest_groups(images: FileImages) -> tuple[str, int] | None:
    """A ``group_by`` that folders or file names suggest, and how many groups it makes; None = they suggest none.

    It must capture something of every file, make groups of two and more images on average, and put at least
    two of them into every class; ``happy_001.png`` in a folder of its own says nothing. Folders below the class
    folders, of people or videos, come before names.
    """
    root = os.path.commonpath({path.parent for path in images.paths})
    for pattern in (r"^[^/]+/([^/]+)/", r"^([^_-]+)[_-]", r"^(.+)[_-]\d+\."):
        try:
            files = ((path.name, os.path.relpath(path, root).replace(os.sep, "/")) for path in images.paths)
            groups = captured_groups(pattern, files)
        except DakitError:
            continue
        if len(set(groups)) > len(images) / 2:
            continue
        by_class: dict[int, set[str]] = {}
        for label, group in zip(images.labels, groups, strict=True):
            by_class.setdefault(label, set()).add(group)
        if min(len(names) for names in by_class.values()) >= 2:
            return pattern, len(set(groups))
    return None


def usual_split(images: FileImages) -> dict[str, Any] | None:
    """The split that the names of the published parts speak of; None where there is none, or they do not say.

    Train, perhaps val, and test in any spelling: what is published for testing is tested, and only that. Parts that
    are called like folds (Set 1 and Set 2, fold0 and fold1, a and b): each is tested in turn.
    """
    names = set(images.parts or ())
    roles = {part_role(name) for name in names}
    if "test" in roles and len(roles) > 1 and None not in roles:
        return {"predefined": True}
    called = r"((?:fold|set|split|part|subset|group|batch|session|k|cv)?[\s_.-]*)(\d+|[a-z])"
    folds = [re.fullmatch(called, name.lower()) for name in names]
    if len(names) > 1 and all(folds) and len({fold[1] for fold in folds if fold}) == 1:
        return {"folds": "predefined"}
    return None


def choose_split(images: FileImages, tested: str | None = None) -> dict[str, Any]:
    """How to test on the target: published parts as they are, else as many folds (up to 5) as the groups allow.

    Args:
        images: of the target.
        tested: which published part to test on; "each" = one after the other, "none" = deal the images anew,
            None = as :func:`usual_split` says.

    Raises:
        DakitError: a class has fewer than two groups, or it would be learned from what is published for testing.
    """
    published = sorted({name for name in images.parts or () if part_role(name) == "test"})
    if tested == "none" and published:
        raise DakitError(
            f"--test none: target: images published for testing ({', '.join(published)}) would be learned from; "
            "--test NAME tests on a part"
        )
    if tested not in (None, "none"):
        split: dict[str, Any] = {"folds": "predefined"} if tested == "each" else {"predefined": tested}
        try:
            Split(**split).rounds(images)
        except DakitError as error:
            raise DakitError(f"--test {tested}: target: {error}") from error
        return split
    if tested is None and (usual := usual_split(images)):
        return usual
    problem = DakitError("")
    for folds in (5, 4, 3, 2):
        try:
            Split(folds=folds).apply(images, 0, 0)
        except DakitError as error:
            problem = error
        else:
            return {"folds": folds}
    raise DakitError(f"target: it cannot be divided into images to learn from and images to test on: {problem}")


def choose_size(target: Found, gpu_gigabytes: float | None, *, pretrained: bool = False) -> int:
    """The side of the images: at most what nine in ten of the target's have, and what the machine can train with.

    The target decides, as it is what is tested; a source of smaller pictures is enlarged. A pretrained network reads
    little of small images, and its frozen features are cheap: it is given twice the side.
    """
    most = 64 if gpu_gigabytes is None else 128 if gpu_gigabytes < 12 else 256
    have, most = (2 * target.smallest, max(most, 128)) if pretrained else (target.smallest, most)
    return max([size for size in _SIZES if size <= min(have, most)], default=_SIZES[0])


def write_recipe(
    name: str,
    domains: Sequence[Found],
    classes: Sequence[str],
    size: int,
    *,
    gpu: bool,
    command: str,
    tested: str | None = None,
    backbone: tuple[str, str] | None = None,
) -> str:
    """The recipe's text: what a practitioner tries first, then CycleAT, each value with its reason.

    Args:
        name: of the recipe.
        domains: source, target, and an auxiliary set where there is one.
        classes: in the order of the labels.
        size: of the images in pixels.
        gpu: whether to choose networks and steps for a GPU.
        command: that asked for it, for the first line.
        tested: the part to test on, see :func:`choose_split`.
        backbone: name and file of weights of a pretrained network; None = networks start from nothing.

    Raises:
        DakitError: the target cannot be divided, or the networks take no images of this size.
    """
    by_role = {domain.role: domain for domain in domains}
    source, target = by_role["source"], by_role["target"]
    auxiliary = "auxiliary.all" if "auxiliary" in by_role else "target.train"
    step = 2 ** _downsamplings(size)
    if size % step:
        below = size - size % step
        raise DakitError(
            f"--size {size}: expected a multiple of {step}, as the translator halves the image "
            f"{'twice' if step == 4 else 'once'}: {below} or {below + step}"
        )
    split = choose_split(target.images, tested)
    rule = Split(**split)
    anchors = min(len(rule.apply(target.images, fold, 0)["train"]) for fold in range(rule.rounds(target.images)))
    look_alike = len(by_role["auxiliary"].images) if "auxiliary" in by_role else anchors
    # t-SNE wants at least three images per unit of perplexity
    perplexity = max(1, min(30, (len(source.images) + anchors) // 3 - 1))
    neighbours = min(8, len(source.images))
    big = gpu and size >= 96
    n = len(source.images)
    epochs, least, most = (60, 2000, 40000) if gpu else (20, 300, 1000)

    def batch(images: int, most: int = 32) -> int:
        return max(size for size in (1, 2, 4, 8, 16, 32) if size <= min(images, most))

    def steps(images: int, size: int, factor: float = 1) -> int:
        wanted = images * epochs / size * factor
        return int(-(-min(max(wanted, least * factor), most * factor) // 50) * 50)

    width = 64 if gpu else 16
    layers = 3 if size >= 128 else 2
    blocks = (9 if size >= 256 else 6) if gpu else 3
    downsamplings = _downsamplings(size)
    data = []
    for role in ("source", "auxiliary", "target"):
        if role in by_role:
            domain = by_role[role]
            extra: dict[str, Any] = {"split": split} if role == "target" else {}
            data.append(f"  {role}: {_flow({**domain.params, **extra})}  # {_about(domain)}")
    values = {
        "name": name, "command": command, "machine": "a GPU" if gpu else "a machine without a GPU",
        "size": size, "classes": _flow(list(classes)), "data": "\n".join(data), "auxiliary": auxiliary,
        "gpu": gpu, "big": big, "backbone": backbone and {"arch": backbone[0], "weights": _flow(backbone[1])},
        "blocks": blocks, "width": width, "layers": layers, "downsamplings": downsamplings,
        "neighbours": neighbours, "perplexity": perplexity, "neighbours_quick": min(2, n),
        "pretrain_steps": steps(n, 32), "pretrain_batch": batch(n), "lr": "2e-4" if big or backbone else "1e-3",
        "translation_steps": steps(n, 1 if big else 4),
        "adversarial_weight": 1 if big else 0.3, "identity_weight": 0 if big else 5,
        "stage_1_batch": 1 if big else batch(min(n, look_alike), 4), "stage_2_batch": batch(min(n, look_alike), 4),
        "adapt_steps": steps(anchors, 32, 0.5), "adapt_batch": batch(anchors),
        "adapt_lr": "2e-4" if big or backbone else "5e-4",
    }  # fmt: skip
    return _template().render(**values)


def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    house = Environment(
        loader=PackageLoader("dakit.advice", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return house.get_template("init.yaml.jinja")


def _downsamplings(size: int) -> int:
    """How often the translator halves an image."""
    return 2 if size >= 64 else 1


def _flow(value: Any) -> str:
    """A value as YAML in one line. JSON is YAML; names that need no quotes go without, for people to read."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value)
    words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)


def _about(domain: Found) -> str:
    groups = f", {domain.groups} groups" if domain.groups else ""
    grey = ", grey" if domain.grey == 1 else ""
    return f"{len(domain.images)} images, about {domain.pixels[0]} x {domain.pixels[1]} pixels{grey}{groups}"
