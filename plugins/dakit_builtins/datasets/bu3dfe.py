"""BU-3DFE: rendered views of 3D scans of faces.

It may not be passed on; the docstring says where to ask for it.

Source: Zhang, Zhang, Mao, Duan, Xu, *Facial Expression Recognition in the Wild: A Cycle-Consistent
Adversarial Attention Transfer Approach*, ACM Multimedia 2018, section 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import annotated_types

from dakit.data.deep import Range
from dakit.data.files import existing_folder, list_images, number_labels
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit.parameters import checked

Level = Annotated[int, annotated_types.Ge(1), annotated_types.Le(4)]

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
        angles = {int(view[what]) for _, view in views}
        absent = sorted(set(asked) - angles)
        if absent:
            raise DakitError(f"{root}: no view has the {what} {absent[0]}; there are: {sorted(angles - always)}")
        views = [(path, view) for path, view in views if int(view[what]) in {*asked, *always}]
    selected, labels, names = number_labels([view["expression"] for _, view in views], classes, ignore, root)
    groups = [views[i][1]["subject"] for i in selected]
    return FileImages(
        [views[i][0] for i in selected], labels, groups, names, size=size, fit=fit, range=range, passed_over=others
    )
