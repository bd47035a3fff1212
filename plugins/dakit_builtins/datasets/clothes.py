"""Clothes: product pictures, people's photographs of their own, and a pile of photographs without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image

from dakit.data.files import existing_folder, list_images, number_labels
from dakit.data.sets import FileImages, TensorImages, in_rgb, sized
from dakit.interfaces import Folder, ImageSet
from dakit.parameters import checked

_SHIPPED = Path(__file__).with_name("clothes.zip")


@checked
def clothes(
    size: int,
    classes: Sequence[str] | None,
    *,
    part: Literal["product", "real", "web"],
    root: Folder | None = None,
    ignore: Sequence[str] = (),
    fit: Literal["crop", "squash"] = "crop",
) -> ImageSet:
    """A real case of few labels, of which a small edition comes with dakit: from product pictures to photographs.

    ===========  =====================================================================================
    ``product``  source: 810 grey product pictures, white on black, 28 x 28: 90 a class, 270 shoes
    ``real``     target: 608 colour photographs taken by 32 people; who took which is not known
    ``web``      auxiliary: photographs of the same kind without labels, 1,500 of 3,068; one in seven
                 shows what is of no class (hats, shorts, skirts)
    ===========  =====================================================================================

    The classes are dress, longsleeve, outwear, pants, shirt, shoes and t-shirt. Photographs have 64 pixels on their
    smaller side; with ``root`` the whole edition is read, of at most 128 pixels, laid out as
    ``<root>/<part>/<class>/*`` and ``<root>/web/*``.

    Licence: MIT for the product pictures (Zalando SE, 2017), CC0 1.0 for the photographs (Alexey Grigorev and
    contributors); both texts lie in ``clothes.zip`` beside this file.

    Source: Xiao, Rasul, Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*,
    2017; Grigorev and contributors, *clothing-dataset-small*, 2020.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: the class names in the order of the labels; None = all seven, sorted (from the recipe).
        part: which of the three sets.
        root: the folder of the whole edition; None = what comes with dakit.
        ignore: classes to leave out.
        fit: "crop" takes the largest centred square, "squash" the whole image.

    Raises:
        DakitError: the folder is missing or holds no images, or a class is not among the classes.
    """
    if root is not None:
        folder = existing_folder(Folder(Path(root.path) / part), "<root>/product/<class>/*, real/<class>/*, web/*")
        paths, others = list_images(folder)
        names = [path.parent.name if part != "web" else "" for path in paths]
        picked, labels, order = number_labels(names, classes, ignore, str(folder))
        return FileImages(
            [paths[i] for i in picked], labels, None, order, size=size, fit=fit, passed_over=Counter(others)
        )
    with ZipFile(_SHIPPED) as archive:
        files = [name for name in archive.namelist() if name.startswith(f"{part}/")]
        names = [name.split("/")[1] if part != "web" else "" for name in files]
        picked, labels, order = number_labels(names, classes, ignore, f"clothes, {part}")
        pixels = np.empty((len(picked), 3, size, size), np.uint8)
        for place, index in enumerate(picked):
            with Image.open(BytesIO(archive.read(files[index]))) as image:
                image.draft("RGB", (size, size))  # as files are read, so that both editions give the same pixels
                pixels[place] = np.asarray(sized(in_rgb(image), size, fit)).transpose(2, 0, 1)
    return TensorImages(torch.from_numpy(pixels), labels, None, order)
