from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from dakit.data.sets import TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Selection
from dakit.stages.domains import MapDomains

RED, GREEN, BLUE = (Unlabelled(tiny.images([0] * n, seed=n)) for n in (10, 4, 3))


class Averages:
    """Embeds an image as its mean red and green."""

    classifier: Any = None
    seed: int | None = None

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        raise AssertionError("nothing is selected here")

    def embed(self, *sets: ImageSet, classifier: Any, device: torch.device) -> tuple[Tensor, tuple[str, ...]]:
        Averages.classifier, Averages.seed = classifier, torch.initial_seed()
        images = [images[i].image for images in sets for i in range(len(images))]
        return torch.stack(images).float().mean((2, 3))[:, :2], (f"embedded on {device}",)


class Blind:
    """A selector without ``embed``."""

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        raise AssertionError


def means(images: ImageSet, chosen: list[int]) -> Tensor:
    return torch.stack([images[i].image.float().mean((1, 2))[:2] for i in chosen])


def points(folder: Path, *, images: int = 500, **inputs: Any) -> tuple[np.ndarray, list[str], list[str]]:
    ctx = tiny.context(folder)
    MapDomains(selector=tiny.spec(Averages), images=images).run(ctx, **inputs)
    with np.load(folder / "domains.npz", allow_pickle=False) as kept:
        return kept["points"], kept["domains"].tolist(), ctx.notes


def test_points_are_kept_in_the_order_of_the_domains(tmp_path: Path) -> None:
    found, domains, notes = points(tmp_path, target=BLUE, source=RED, auxiliary=GREEN)
    assert domains == ["source"] * 10 + ["auxiliary"] * 4 + ["target"] * 3
    expected = torch.cat([means(RED, list(range(10))), means(GREEN, list(range(4))), means(BLUE, list(range(3)))])
    assert np.array_equal(found, expected.numpy())
    assert notes == ["embedded on cpu"]
    with Image.open(tmp_path / "domains.png") as picture:
        assert picture.format == "PNG"


class Turned(Averages):
    """Embeds in as many dimensions as it is told, after its seed."""

    def __init__(self, *, dimensions: int = 2, method: str = "flat only") -> None:
        self.dimensions, self.method = dimensions, method

    def embed(self, *sets: ImageSet, classifier: Any, device: torch.device) -> tuple[Tensor, tuple[str, ...]]:
        assert self.method == ("flat only" if self.dimensions == 2 else "auto")
        return torch.rand(sum(map(len, sets)), self.dimensions), ()


@pytest.mark.parametrize(("asked", "kept"), [(2, {"points": 2, "points_3d": 3}), (3, {"points": 3})])
def test_a_map_in_two_dimensions_is_also_made_in_three(tmp_path: Path, asked: int, kept: dict[str, int]) -> None:
    method = "flat only" if asked == 2 else "auto"
    selector = tiny.spec(Turned, dimensions=asked, method=method)
    MapDomains(selector=selector).run(tiny.context(tmp_path), source=RED, target=BLUE)
    with np.load(tmp_path / "domains.npz") as found:
        assert {name: found[name].shape[1] for name in found if name.startswith("points")} == kept
        torch.manual_seed(tiny.context(tmp_path).seed)
        assert np.array_equal(found["points"], torch.rand(13, asked).numpy())


def test_the_class_of_each_point_is_kept(tmp_path: Path) -> None:
    points(tmp_path, source=tiny.images([2, 0]), target=tiny.images([1]), auxiliary=GREEN)
    with np.load(tmp_path / "domains.npz") as kept:
        assert kept["classes"].tolist() == ["c", "a", "", "", "", "", "b"]


def test_many_images_are_thinned_evenly(tmp_path: Path) -> None:
    """Four of ten stand at 0, 3, 6 and 9; three of three stay."""
    found, domains, _ = points(tmp_path, images=4, source=RED, target=BLUE)
    assert domains == ["source"] * 4 + ["target"] * 3
    assert np.array_equal(found, torch.cat([means(RED, [0, 3, 6, 9]), means(BLUE, [0, 1, 2])]).numpy())


def test_the_selector_is_given_the_classifier_frozen(tmp_path: Path) -> None:
    weights = tiny.fresh(tiny.spec(tiny.Classifier), 9, tiny.CLASSES)
    points(tmp_path, source=RED, target=BLUE, classifier=weights)
    assert tiny.same(Averages.classifier.state_dict(), weights.state)
    assert not Averages.classifier.training
    assert not any(p.requires_grad for p in Averages.classifier.parameters())
    points(tmp_path, source=RED, target=BLUE)
    assert Averages.classifier is None


def test_the_embedding_is_drawn_with_the_seed_of_the_stage(tmp_path: Path) -> None:
    torch.manual_seed(77)
    points(tmp_path, source=RED, target=BLUE)
    assert Averages.seed == tiny.context(tmp_path).seed


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    small = TensorImages(torch.zeros(3, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(DakitError, match="the domains have images of different sizes"):
        points(tmp_path, source=RED, target=small)


def test_a_selector_that_cannot_embed_is_refused_before_anything_runs() -> None:
    assert MapDomains(selector=tiny.spec(Averages)).check(frozenset({"source", "target"})) == []
    problems = MapDomains(selector=tiny.spec(Blind)).check(frozenset({"source", "target"}))
    assert problems == ['selector "Blind" cannot embed images; tsne_knn can']


# --------------------------------------------------------------------------------- found by mutants
def test_all_processes_call_a_selector_that_works_together_and_no_other() -> None:
    class Together(Averages):
        together = True

    assert MapDomains(selector=tiny.spec(Together)).together is True
    assert MapDomains(selector=tiny.spec(Averages)).together is False
