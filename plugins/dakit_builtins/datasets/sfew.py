"""SFEW: frames of films with seven expressions.

It may not be passed on; the docstring says where to ask for it.

Source: Zhang, Zhang, Mao, Duan, Xu, *Facial Expression Recognition in the Wild: A Cycle-Consistent
Adversarial Attention Transfer Approach*, ACM Multimedia 2018, section 4.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dakit.data.deep import Range
from dakit.data.files import existing_folder, number_labels
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit.parameters import checked
from dakit_builtins.datasets.expressions import EXPRESSIONS, by_expression


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
        f"<root>/Set 2/<Class>/*.png with the classes {', '.join(EXPRESSIONS)}; "
        "ask its authors (Abhinav Dhall) for a licence"
    )
    folder = existing_folder(root, expected)
    files: list[tuple[str, str, Path]] = []
    others: Counter[str] = Counter()
    for part, key in (("Set 1", "set1"), ("Set 2", "set2")):
        places = [p for p in sorted(folder.iterdir()) if re.sub(r"[\s_-]", "", p.name).lower() == key]
        images = [(part, *image) for place in places for image in by_expression(place, ignore, others)]
        if not images:
            raise DakitError(f'{root}: there are no images in "{part}"; expected {expected}')
        files += images
    selected, labels, names = number_labels([expression for _, expression, _ in files], classes, ignore, root)
    files = [files[i] for i in selected]
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
