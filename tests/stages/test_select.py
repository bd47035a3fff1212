from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tiny
from dakit.data.sets import Unlabelled
from dakit.interfaces import ImageSet, Selection
from dakit.report.thumbnails import load_strips, pick
from dakit.stages.select import Select

POOL = tiny.images([0, 1, 2, 1, 0], seed=1)
ANCHORS = tiny.images([1, 2, 0], seed=2)


class Fixed:
    """Chooses what the test says, and keeps what it was given."""

    def __init__(self, rows: list[list[int]], exact: list[list[int]] | None = None) -> None:
        self.rows, self.exact = rows, exact

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        self.given = {"pool": pool, "anchors": anchors, **given}
        chosen = torch.tensor(self.rows)
        exact = None if self.exact is None else torch.tensor(self.exact)
        return Selection(chosen, torch.full(chosen.shape, torch.nan), ("told by the selector",), exact)


def select(folder: Path, rows: list[list[int]], **inputs: Any) -> tuple[ImageSet, Any, Fixed]:
    ctx = tiny.context(folder)
    spec, built = tiny.recorded(Fixed, rows=rows)
    made = Select(selector=spec).run(ctx, **{"pool": POOL, "anchors": ANCHORS, **inputs})
    return made.images, ctx, built[0]


def test_chosen_images_stand_as_often_as_they_were_chosen(tmp_path: Path) -> None:
    """Row by row, -1 left out, with label and group."""
    images, ctx, _ = select(tmp_path, [[3, 0], [3, -1], [4, 3]])
    wanted = [3, 0, 3, 4, 3]
    assert len(images) == 5
    assert list(images.labels) == [1, 0, 1, 0, 1]
    assert images.classes == POOL.classes
    for place, index in enumerate(wanted):
        assert torch.equal(images[place].image, POOL.images[index])
        assert images[place][1:] == (POOL.labels[index], POOL.groups[index])
    assert ctx.facts["selection"] == {
        "picks": 5,
        "distinct": 3,
        "largest_reuse": 3,
        "picks_per_class": {"a": 2, "b": 3, "c": 0},
        "distinct_per_class": {"a": 2, "b": 1, "c": 0},
        "picks_of_own_class": 2,  # image 3 for the first anchor, 4 for the last
        "exact_picks": None,
        "exact_distinct": None,
    }
    assert ctx.notes == [
        "told by the selector",
        "selected 3 distinct images in 5 picks (one image up to 3 times)",
    ]


def test_agreement_with_the_exact_nearest_is_told(tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    spec, _ = tiny.recorded(Fixed, rows=[[3, 0], [3, 1], [4, 3]], exact=[[0, 3], [3, 2], [1, 2]])
    Select(selector=spec).run(ctx, pool=POOL, anchors=ANCHORS)
    assert (ctx.facts["selection"]["exact_picks"], ctx.facts["selection"]["exact_distinct"]) == (3, 4)
    assert ctx.notes[-1] == "3 of them are among the exact nearest of their anchor, which are 4 distinct images"


def test_anchors_need_no_labels(tmp_path: Path) -> None:
    images, ctx, _ = select(tmp_path, [[0], [1], [2]], anchors=Unlabelled(ANCHORS))
    assert list(images.labels) == [0, 1, 2]
    assert ctx.facts["selection"]["picks_of_own_class"] is None


def test_what_the_selector_is_given(tmp_path: Path) -> None:
    """The sets as they are, the classifier with its weights, frozen and in evaluation mode."""
    weights = tiny.fresh(tiny.spec(tiny.Classifier, norm=True), 9, tiny.CLASSES)
    _, _, selector = select(tmp_path, [[0]] * 3, classifier=weights)
    given = selector.given
    assert given["pool"] is POOL
    assert given["anchors"] is ANCHORS
    assert given["device"] == torch.device("cpu")
    assert tiny.same(given["classifier"].state_dict(), weights.state)
    assert not given["classifier"].training
    assert not any(p.requires_grad for p in given["classifier"].parameters())
    assert select(tmp_path, [[0]] * 3)[2].given["classifier"] is None


class Chance:
    """Draws from torch's global generator, as the contract says."""

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        chosen: Tensor = torch.randint(len(pool), (len(anchors), 40))
        return Selection(chosen, torch.zeros(chosen.shape))


def test_a_random_choice_comes_from_the_seed_of_the_stage(tmp_path: Path) -> None:
    def labels(seed: int) -> list[int]:
        ctx = tiny.context(tmp_path)
        ctx.seed = seed
        stage = Select(selector=tiny.spec(Chance))
        return list(stage.run(ctx, pool=POOL, anchors=ANCHORS).images.labels)

    torch.manual_seed(0)
    first = labels(3)
    torch.manual_seed(1)
    assert labels(3) == first
    assert labels(4) != first


def test_what_was_chosen_is_kept_to_be_looked_at(tmp_path: Path) -> None:
    """A row with the anchors, by class, then one for each with its chosen images; an anchor without any has none."""
    select(tmp_path, [[3, 0], [-1, -1], [4, 2]])
    with np.load(tmp_path / "selection.npz") as file:
        assert file["indices"].tolist() == [[3, 0], [-1, -1], [4, 2]]
        assert np.isnan(file["distances"]).all()
        assert file["shown"].tolist() == [2, 0]
    (names, anchors), *chosen = load_strips(tmp_path / "selection.npz")
    assert names == "a\nb"
    assert (anchors == pick(ANCHORS, [2, 0])).all()
    assert [title for title, _ in chosen] == ["a\nc", "b\na"]
    assert (chosen[1][1] == pick(POOL, [3, 0])).all()


# --------------------------------------------------------------------------------- found by mutants
def test_all_processes_call_a_selector_that_works_together_and_no_other():
    class Together:
        together = True

    class Alone:
        pass

    assert Select(selector=tiny.spec(Together)).together is True
    assert Select(selector=tiny.spec(Alone)).together is False


def test_an_anchor_with_fewer_images_than_others_is_shown_with_those(tmp_path: Path) -> None:
    select(tmp_path, [[3, 0], [1, -1], [-1, -1]])
    with np.load(tmp_path / "selection.npz") as file:
        assert file["shown"].tolist() == [0, 1]
    (_, anchors), *chosen = load_strips(tmp_path / "selection.npz")
    assert (anchors == pick(ANCHORS, [0, 1])).all()
    assert [names for names, _ in chosen] == ["b\na", "b"]
    assert (chosen[1][1] == pick(POOL, [1])).all()
