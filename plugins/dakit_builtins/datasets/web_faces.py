"""Faces without labels: CelebA, LFW, or any folders of images.

It may not be passed on; the docstring says where to ask for it.

Source: Zhang, Zhang, Mao, Duan, Xu, *Facial Expression Recognition in the Wild: A Cycle-Consistent
Adversarial Attention Transfer Approach*, ACM Multimedia 2018, section 4.1.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from dakit.data.deep import Range
from dakit.data.files import existing_folder, list_images, told_of
from dakit.data.sequences import integers, lean_paths, taken
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder, Positive
from dakit.parameters import checked


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
        images, more = list_images(folder)
        if not images:
            seen = f" among {told_of(more)}" if more else ""
            raise DakitError(f"{given}: holds no images{seen}; expected {expected}")
        others += more
        places = [path.parent for path in images]
        one_folder = len(set(places)) == 1
        for place in places:
            groups.append(f"#{len(groups)}" if one_folder else sys.intern(place.relative_to(folder).as_posix()))
        paths += map(str, images)
    n = len(paths)
    count = n if limit is None else min(limit, n)
    picked = integers(np.arange(count) * n // count)
    files = taken(lean_paths(paths), picked)
    return FileImages(files, None, [groups[i] for i in picked], size=size, fit=fit, range=range, passed_over=others)
