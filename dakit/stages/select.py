"""``select``: the generated images that are nearest to the target's (CycleAT, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dakit.data.selection import selection_report
from dakit.data.sets import Subset
from dakit.interfaces import Classifier, Context, ImageSet, Selection, Selector, Spec, Trained
from dakit.optional import RunsTogether, offers
from dakit.parameters import checked
from dakit.report.thumbnails import examples, pick, save_strips
from dakit.training.seeds import seed_everything
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer

SHOWN = 8
"""So many anchors, and at most so many of the images chosen for each, are kept to be looked at."""


class Selected(NamedTuple):
    """What the stage makes: the chosen pool images; one chosen n times stands there n times."""

    images: ImageSet


@checked
class Select:
    """Choose pool images for each anchor, and tell how many distinct ones that gave.

    Inputs: ``pool``, ``anchors``; optional ``classifier``, whose first layer or features a selector may use.

    Args:
        selector: the rule.
    """

    version: ClassVar[int] = 2

    def __init__(self, *, selector: Spec[Selector]) -> None:
        self.selector = selector

    @property
    def together(self) -> bool:
        """Whether all processes of a run are to call the selector."""
        factory: Any = self.selector.factory
        return offers(factory, RunsTogether) and factory.together

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether the pool has as many images as the selector is to choose for an anchor, where both are known."""
        pool, wanted = sizes["pool"], self.selector.params.get("neighbours", 1)
        if pool is None or pool >= wanted:
            return []
        return [f"neighbours: {wanted} for each anchor, but the pool has {pool} images; at most {pool} fits"]

    @undisturbed()
    def run(
        self,
        ctx: Context,
        *,
        pool: ImageSet,
        anchors: ImageSet,
        classifier: Trained[Classifier] | None = None,
    ) -> Selected:
        """Select, and keep ``selection.npz``.

        Facts: picks, distinct images (also by class), the largest reuse, and where the selector knows the nearest
        images in the full feature space how many of the picks are among them.
        """
        trainer = Trainer(ctx)
        network = None if classifier is None else trainer.place(classifier.build(), train=False)
        for observer in ctx.observers:
            observer.work_started(f"selecting from {len(pool)} images for {len(anchors)}", None)
        seed_everything(ctx.seed)
        chosen = self.selector.build()(pool, anchors, classifier=network, device=trainer.device)
        for text in chosen.notes:
            ctx.note(text)
        report = selection_report(chosen, pool, anchors)
        ctx.facts["selection"] = report
        ctx.note(
            f"selected {report['distinct']} distinct images in {report['picks']} picks "
            f"(one image up to {report['largest_reuse']} times)"
        )
        if report["exact_picks"] is not None:
            ctx.note(
                f"{report['exact_picks']} of them are among the exact nearest of their anchor, "
                f"which are {report['exact_distinct']} distinct images"
            )
        _keep(ctx, chosen, pool, anchors)
        return Selected(Subset(pool, [int(i) for i in chosen.indices.flatten() if i >= 0]))


def _keep(ctx: Context, chosen: Selection, pool: ImageSet, anchors: ImageSet) -> None:
    """Write ``selection.npz``: ``indices`` and ``distances`` ``(A, t)``, and pictures of some.

    Of the anchors ``shown`` the first row has the pictures; then comes one row of chosen images for each,
    titled with the classes, separated by newlines ("" = none).
    """

    def names(images: ImageSet, indices: list[int]) -> str:
        labels = [images.labels[i] for i in indices]
        return "\n".join(images.classes[k] if images.classes and k >= 0 else "" for k in labels)

    shown = [anchor for anchor in examples(anchors.labels, SHOWN) if (chosen.indices[anchor] >= 0).any()]
    strips = [(names(anchors, shown), pick(anchors, shown))] if shown else []
    for anchor in shown:
        row = [i for i in chosen.indices[anchor].tolist() if i >= 0][:SHOWN]
        strips.append((names(pool, row), pick(pool, row)))
    arrays = {"indices": chosen.indices.numpy(), "distances": chosen.distances.numpy()}
    save_strips(ctx.folder / "selection.npz", strips, shown=np.array(shown, dtype=np.int64), **arrays)
