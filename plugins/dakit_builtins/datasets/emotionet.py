"""EmotioNet: photographs from the web with basic expressions.

It may not be passed on; the docstring says where to ask for it.

Source: Zhang, Zhang, Mao, Duan, Xu, *Facial Expression Recognition in the Wild: A Cycle-Consistent
Adversarial Attention Transfer Approach*, ACM Multimedia 2018, section 4.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from dakit.data.deep import Range
from dakit.data.files import existing_folder, number_labels
from dakit.data.sets import FileImages
from dakit.interfaces import Folder
from dakit.parameters import checked
from dakit_builtins.datasets.expressions import by_expression


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
    files = by_expression(folder, ignore, others)
    selected, labels, names = number_labels([expression for expression, _ in files], classes, ignore, root)
    paths = [files[i][1] for i in selected]
    return FileImages(paths, labels, None, names, size=size, fit=fit, range=range, passed_over=others)
