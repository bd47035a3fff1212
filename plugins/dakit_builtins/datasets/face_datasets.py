"""The face datasets of the CycleAT experiments, in the layouts in which they are handed out or rendered.

None of them may be passed on; each docstring says where to ask for it.

Source: Zhang, Zhang, Mao, Duan, Xu, *Facial Expression Recognition in the Wild: A Cycle-Consistent
Adversarial Attention Transfer Approach*, ACM Multimedia 2018, section 4.1.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import annotated_types
import numpy as np

from dakit.data.deep import Range
from dakit.data.files import existing_folder, list_images, number_labels, told_of
from dakit.data.sequences import integers, lean_paths, taken
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder, Positive
from dakit.parameters import checked

Level = Annotated[int, annotated_types.Ge(1), annotated_types.Le(4)]

_EXPRESSIONS = {
    "Angry": "AN",
    "Disgust": "DI",
    "Fear": "FE",
    "Happy": "HA",
    "Neutral": "NE",
    "Sad": "SA",
    "Surprise": "SU",
}

_VIEW = re.compile(
    r"(?P<subject>[FM]\d{4})"
    r"_(?P<expression>NE(?=00)|(?:AN|DI|FE|HA|SA|SU)(?=0[1-4]))(?P<level>\d\d)(?:[A-Z]{2})?"
    r"_p(?P<pan>[+-]?\d+)_t(?P<tilt>[+-]?\d+)"
)


@checked
def bu3dfe(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    levels: Sequence[Level] = (3, 4),
    pans: Sequence[int] | None = None,
    tilts: Sequence[int] | None = None,
    ignore: Sequence[str] = (),
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    """BU-3DFE: 3D scans of 100 people with seven expressions, rendered from many sides.

    Layout::

        <root>/<subject>/<subject>_<EX><LL><RACE>_p<pan>_t<tilt>.png     F0001/F0001_AN03WH_p+15_t-10.png

    The name up to ``_p`` is that of the scan in BU-3DFE: the subject, ``F0001`` to ``F0056`` or ``M0001``
    to ``M0044``; the expression, one of AN DI FE HA NE SA SU; its level, ``01`` to ``04`` (``00`` for NE,
    which has one level only); the code of the race, which may be missing. ``_p`` and ``_t`` are the pan and
    tilt of the rendered view in whole degrees. Folders below ``root`` may be arranged otherwise; the name
    decides. Every image's group is its subject.

    The paper renders levels 3 and 4 at the 11 pan angles 0, +-5, +-15, +-25, +-35, +-45 and the 13 tilt
    angles 0, +-5, +-10, +-15, +-20, +-25, +-30: 100 x 6 x 143 x 2 + 100 x 143 = 185,900 images.

    Licence: the scans are given to researchers on signed agreement; ask the authors at Binghamton University
    (Lijun Yin's group). The views have to be rendered from the scans and their textures.

    Source: Yin, Wei, Sun, Wang, Rosato, *A 3D facial expression database for facial behavior research*, FG
    2006.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: expressions in the order of the labels; None = all found, sorted (from the recipe).
        root: the folder that holds the rendered views.
        levels: of the six expressions to use; NE is used in any case.
        pans: pan angles to use; None = all found.
        tilts: tilt angles to use; None = all found.
        ignore: expressions to leave out, such as NE for six classes.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: the folder is missing or holds no images, a name is not that of a view, no view has one of
            the levels or angles asked for, or an expression is not among the classes.
    """
    folder = existing_folder(
        root,
        "rendered BU-3DFE views, <root>/<subject>/<subject>_<EX><LL><RACE>_p<pan>_t<tilt>.png such as "
        "F0001/F0001_AN03WH_p+15_t-10.png; ask the authors at Binghamton University for the scans",
    )
    paths, others = list_images(folder)
    views = [(path, view) for path in paths if (view := _VIEW.fullmatch(path.stem))]
    strange = sorted(set(paths) - {path for path, _ in views})
    if strange:
        raise DakitError(
            f"{root}: {len(strange)} names are not those of rendered views, such as {strange[0]}; "
            "expected names such as F0001_AN03WH_p+15_t-10.png"
        )
    neutral = {0}  # the level of NE
    for what, asked, always in (("level", levels, neutral), ("pan", pans, set()), ("tilt", tilts, set())):
        if asked is None or not views:
            continue
        found = {int(view[what]) for _, view in views}
        absent = sorted(set(asked) - found)
        if absent:
            raise DakitError(f"{root}: no view has the {what} {absent[0]}; there are: {sorted(found - always)}")
        views = [(path, view) for path, view in views if int(view[what]) in {*asked, *always}]
    kept, labels, names = number_labels([view["expression"] for _, view in views], classes, ignore, root)
    groups = [views[i][1]["subject"] for i in kept]
    return FileImages(
        [views[i][0] for i in kept], labels, groups, names, size=size, fit=fit, range=range, passed_over=others
    )


@checked
def sfew(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    ignore: Sequence[str] = (),
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    """SFEW: frames of films with seven expressions, in two published sets that share no person.

    Layout::

        <root>/Set 1/<Class>/*.png     346 images; also Set1 or set_1
        <root>/Set 2/<Class>/*.png     354 images

    ``<Class>`` is Angry, Disgust, Fear, Happy, Neutral, Sad or Surprise, or the code AN, DI, FE, HA, NE, SA
    or SU, in either case; the codes are the classes. The parts are "Set 1" and "Set 2". An image's group is
    its film: the name up to the first underscore that a digit follows
    (``AlexEmma_000357920_00000007.png``), or the whole name without its suffix if there is none. One film
    may stand in both sets.

    Licence: for research, on signed agreement; ask the authors (Abhinav Dhall) for SFEW with its strictly
    person-independent protocol, not for SFEW 2.0 of the EmotiW challenges.

    Source: Dhall, Goecke, Lucey, Gedeon, *Static facial expression analysis in tough conditions: data,
    evaluation protocol and benchmark*, ICCV Workshops 2011.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: expressions in the order of the labels; None = all found, sorted (from the recipe).
        root: the folder that holds the two sets.
        ignore: expressions, or folders of other names, to leave out.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: the folder or one of the two sets is missing, there are no images, a folder is not an
            expression, or an expression is not among the classes.
    """
    expected = (
        "SFEW (strictly person-independent protocol), <root>/Set 1/<Class>/*.png and "
        f"<root>/Set 2/<Class>/*.png with the classes {', '.join(_EXPRESSIONS)}; "
        "ask its authors (Abhinav Dhall) for a licence"
    )
    folder = existing_folder(root, expected)
    files: list[tuple[str, str, Path]] = []
    others: Counter[str] = Counter()
    for part, key in (("Set 1", "set1"), ("Set 2", "set2")):
        places = [p for p in sorted(folder.iterdir()) if re.sub(r"[\s_-]", "", p.name).lower() == key]
        images = [(part, *image) for place in places for image in _by_expression(place, ignore, others)]
        if not images:
            raise DakitError(f'{root}: there are no images in "{part}"; expected {expected}')
        files += images
    kept, labels, names = number_labels([expression for _, expression, _ in files], classes, ignore, root)
    files = [files[i] for i in kept]
    return FileImages(
        [path for _, _, path in files],
        labels,
        [re.split(r"_\d", path.stem, maxsplit=1)[0] for _, _, path in files],
        names,
        [part for part, _, _ in files],
        size=size,
        fit=fit,
        range=range,
        passed_over=others,
    )


@checked
def emotionet(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    ignore: Sequence[str] = (),
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    """EmotioNet: photographs from the web; the 1,141 with one of the six basic expressions.

    Layout (ours: EmotioNet comes as lists of addresses and labels; sort the images by their basic
    expression)::

        <root>/<Class>/*.jpg

    ``<Class>`` is Angry, Disgust, Fear, Happy, Sad or Surprise, or the code AN, DI, FE, HA, SA or SU, in
    either case; the codes are the classes. Every image is its own group: EmotioNet does not say who is on
    it.

    Licence: for research, by request; ask the Computational Biology and Cognitive Science Lab (CBCSL) of
    the Ohio State University.

    Source: Benitez-Quiroz, Srinivasan, Martinez, *EmotioNet: an accurate, real-time algorithm for the
    automatic annotation of a million facial expressions in the wild*, CVPR 2016.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: expressions in the order of the labels; None = all found, sorted (from the recipe).
        root: the folder that holds the class folders.
        ignore: expressions, or folders of other names, to leave out.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: the folder is missing or holds no images, a folder is not an expression, or an
        expression is
            not among the classes.
    """
    folder = existing_folder(
        root,
        "EmotioNet's basic expressions, <root>/<Class>/*.jpg with the classes Angry, Disgust, Fear, Happy, "
        "Sad, Surprise; ask the CBCSL of the Ohio State University for a licence",
    )
    others: Counter[str] = Counter()
    files = _by_expression(folder, ignore, others)
    kept, labels, names = number_labels([expression for expression, _ in files], classes, ignore, root)
    paths = [files[i][1] for i in kept]
    return FileImages(paths, labels, None, names, size=size, fit=fit, range=range, passed_over=others)


@checked
def web_faces(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder | Sequence[Folder],
    limit: Positive | None = None,
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    """Faces without labels: CelebA, LFW, or any folders of images.

    Layout: every image at or below each root, for example::

        <root>/img_align_celeba/000001.jpg                      CelebA, 202,599 images
        <root>/lfw/Aaron_Eckhart/Aaron_Eckhart_0001.jpg         LFW, 13,233 images of 5,749 people

    Where the images below a root lie in several folders, as in LFW, a folder is a group; where they lie in
    one, as in CelebA, every image is its own. There are no labels and no classes.

    Licence: CelebA is for non-commercial research; agree to its terms at the Multimedia Laboratory of the
    Chinese University of Hong Kong. LFW is public: University of Massachusetts, Amherst.

    Source: Liu, Luo, Wang, Tang, *Deep learning face attributes in the wild*, ICCV 2015. Huang, Ramesh, Berg,
    Learned-Miller, *Labeled faces in the wild*, technical report 07-49, University of Massachusetts, 2007.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: not used (from the recipe).
        root: a folder, or a list of them.
        limit: use at most so many images, evenly spaced over all of them in sorted order; None = all.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: a folder is missing or holds no images.
    """
    expected = (
        "unlabelled faces such as CelebA (<root>/img_align_celeba/*.jpg; Multimedia Laboratory, Chinese "
        "University of Hong Kong) or LFW (<root>/lfw/<Person>/*.jpg; University of Massachusetts, Amherst)"
    )
    paths: list[str] = []
    groups: list[str] = []
    others: Counter[str] = Counter()
    for given in [root] if isinstance(root, str) else root:
        folder = existing_folder(given, expected)
        found, more = list_images(folder)
        if not found:
            seen = f" among {told_of(more)}" if more else ""
            raise DakitError(f"{given}: holds no images{seen}; expected {expected}")
        others += more
        places = [path.parent for path in found]
        one_folder = len(set(places)) == 1
        for place in places:
            groups.append(f"#{len(groups)}" if one_folder else sys.intern(place.relative_to(folder).as_posix()))
        paths += map(str, found)
    n = len(paths)
    count = n if limit is None else min(limit, n)
    picked = integers(np.arange(count) * n // count)
    files = taken(lean_paths(paths), picked)
    return FileImages(files, None, [groups[i] for i in picked], size=size, fit=fit, range=range, passed_over=others)


def _by_expression(folder: Path, ignore: Sequence[str], others: Counter[str]) -> list[tuple[str, Path]]:
    """(expression, path) of every image in ``<folder>/<Class>/``; other files are counted in ``others``."""
    codes = {name.lower(): code for name, code in _EXPRESSIONS.items()}
    files: list[tuple[str, Path]] = []
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.name.startswith(".") or place.name in ignore:
            continue
        code = codes.get(place.name.lower(), place.name.upper())
        if code not in _EXPRESSIONS.values():
            known = ", ".join(f"{name} ({code})" for name, code in _EXPRESSIONS.items())
            raise DakitError(f"{place}: not an expression; expected {known}, or name it in `ignore`")
        paths, more = list_images(place)
        others.update(more)
        files += [(code, path) for path in paths]
    return files
