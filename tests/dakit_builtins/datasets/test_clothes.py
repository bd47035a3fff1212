from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets import clothes as module
from dakit_builtins.datasets.clothes import clothes

CLASSES = ("dress", "longsleeve", "outwear", "pants", "shirt", "shoes", "t-shirt")
WHOLE = Path(os.environ.get("DAKIT_DATA") or Path(__file__).parents[4] / "shared" / "data") / "clothing"


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is shipped, unpacked."""
    folder = tmp_path_factory.mktemp("clothes")
    with ZipFile(module.__file__.replace("clothes.py", "clothes.zip")) as archive:
        archive.extractall(folder)
    return folder


def test_both_licences_are_shipped_and_all_of_it_is_small(edition: Path) -> None:
    assert "Zalando SE" in (edition / "LICENSE-product-MIT").read_text(encoding="utf-8")
    assert "CC0 1.0" in (edition / "LICENSE-photos-CC0").read_text(encoding="utf-8")
    assert Path(module.__file__.replace("clothes.py", "clothes.zip")).stat().st_size < 6_000_000


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("product", {**dict.fromkeys(CLASSES, 90), "shoes": 270}),
        (
            "real",
            {"dress": 47, "longsleeve": 121, "outwear": 62, "pants": 91, "shirt": 55, "shoes": 99, "t-shirt": 133},
        ),
        ("web", {}),
    ],
)
def test_the_shipped_edition_has_what_it_says(part: str, counts: dict[str, int]) -> None:
    images = clothes(16, None, part=part)
    assert images.classes == (CLASSES if counts else ())
    found = Counter(images.classes[label] for label in images.labels if label >= 0)
    assert found == counts
    assert len(images) == (sum(counts.values()) or 1500)
    assert len(set(images.groups)) == len(images)


@pytest.mark.parametrize(
    ("part", "size", "fit"), [("product", 28, "crop"), ("real", 64, "squash"), ("real", 20, "crop")]
)
def test_shipped_and_unpacked_are_the_same_pixels(edition: Path, part: str, size: int, fit: str) -> None:
    """Read by the archive here, and file by file there; both in the order of their paths."""
    ignore = [name for name in CLASSES if name not in ("shirt", "dress")]
    shipped = clothes(size, None, part=part, ignore=ignore, fit=fit)
    whole = clothes(size, None, part=part, ignore=ignore, fit=fit, root=Folder(str(edition)))
    assert list(shipped.labels) == list(whole.labels)
    assert shipped.classes == whole.classes == ("dress", "shirt")
    for index in (0, len(shipped) // 2, len(shipped) - 1):
        assert torch.equal(shipped[index].image, whole[index].image)


def test_the_order_of_the_recipes_classes_is_kept_and_another_class_refused() -> None:
    turned = clothes(8, CLASSES[::-1], part="product")
    assert turned.classes == CLASSES[::-1]
    assert Counter(turned.labels)[CLASSES[::-1].index("shoes")] == 270
    with pytest.raises(DakitError, match=r'"t-shirt" .* not among the classes'):
        clothes(8, CLASSES[:-1], part="real")


def test_a_root_that_is_not_there_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match="product/<class>"):
        clothes(8, None, part="real", root=Folder(str(tmp_path)))


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole edition does not lie beside the checkout")
def test_the_whole_edition() -> None:
    sizes = {part: len(clothes(8, None, part=part, root=Folder(str(WHOLE)))) for part in ("product", "real", "web")}
    assert sizes == {"product": 810, "real": 608, "web": 3068}
