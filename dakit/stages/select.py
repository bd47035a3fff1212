"""``select``: the generated images that are nearest to the target's (CycleAT, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from dakit.data.selection import selection_report
from dakit.data.sets import Subset
from dakit.interfaces import Classifier, Context, ImageSet, Selector, Spec, Trained
from dakit.training import Trainer, seed_everything


class Selected(NamedTuple):
    """What the stage makes: the chosen pool images; one chosen n times stands there n times."""

    images: ImageSet


class Select:
    """Choose pool images for each anchor, and tell how many distinct ones that gave.

    Inputs: ``pool``, ``anchors``; optional ``classifier``, whose first layer or features a selector may use.

    Args:
        selector: the rule.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, selector: Spec[Selector]) -> None:
        self.selector = selector

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether the pool has as many images as the selector is to choose for an anchor, where both are known."""
        pool, wanted = sizes["pool"], self.selector.params.get("neighbours", 1)
        if pool is None or pool >= wanted:
            return []
        return [f"neighbours: {wanted} for each anchor, but the pool has {pool} images; at most {pool} fits"]

    def run(
        self,
        ctx: Context,
        *,
        pool: ImageSet,
        anchors: ImageSet,
        classifier: Trained[Classifier] | None = None,
    ) -> Selected:
        """Select; facts hold picks, distinct images (also by class) and the largest reuse."""
        trainer = Trainer(ctx)
        network = None if classifier is None else trainer.place(classifier.build(), train=False)
        for observer in ctx.observers:
            observer.stage_started(f"selecting from {len(pool)} images for {len(anchors)}", None)
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
        return Selected(Subset(pool, [int(i) for i in chosen.indices.flatten() if i >= 0]))
