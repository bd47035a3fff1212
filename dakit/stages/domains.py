"""``map_domains``: how far apart the domains are (Figure 4 of CycleAT)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dakit import processes
from dakit.data.sets import Subset
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Context, ImageSet, Positive, Selector, Spec, Trained
from dakit.optional import Embeds, RunsTogether, offers
from dakit.parameters import checked
from dakit.report.pictures import domains_png
from dakit.training.seeds import seed_everything
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer


class DomainsMapped(NamedTuple):
    """Nothing is passed on; the picture and the points are kept with the result."""

    nothing: None


@checked
class MapDomains:
    """Draw the first-layer features of the domains in one embedding.

    The selector's own embedding is used (``selector.embed``), so the picture shows the space in which
    neighbours are chosen; where it has 2 ``dimensions``, one in 3 is made for the report, too. At most ``images`` of
    each domain, evenly spaced.

    Inputs: ``source``, ``target``; optional ``auxiliary``, ``classifier`` (whose first layer a selector may use).

    Args:
        selector: one that can ``embed``, such as tsne_knn.
        images: of each domain, at most.
    """

    version: ClassVar[int] = 3

    def __init__(self, *, selector: Spec[Selector], images: Positive = 500) -> None:
        self.selector = selector
        self.images = images

    @property
    def together(self) -> bool:
        """Whether all processes of a run are to call the selector."""
        factory: Any = self.selector.factory
        return offers(factory, RunsTogether) and factory.together

    def check(self, inputs: frozenset[str]) -> list[str]:
        """A selector that cannot embed is refused before anything runs."""
        factory: Any = self.selector.factory
        if offers(factory, Embeds):
            return []
        return [f'selector "{self.selector.name}" cannot embed images; tsne_knn can']

    @undisturbed()
    def run(
        self,
        ctx: Context,
        *,
        source: ImageSet,
        target: ImageSet,
        auxiliary: ImageSet | None = None,
        classifier: Trained[Classifier] | None = None,
    ) -> DomainsMapped:
        """Write ``domains.png`` and ``domains.npz``.

        The latter holds points ``(N, 2 or 3)``, perhaps points_3d ``(N, 3)``, domain and class of each ("" = none).
        """
        trainer = Trainer(ctx)
        network = None if classifier is None else trainer.place(classifier.build(), train=False)
        domains = {"source": source, "auxiliary": auxiliary, "target": target}
        sets = {
            name: Subset(images, np.linspace(0, len(images) - 1, min(self.images, len(images))).astype(int).tolist())
            for name, images in domains.items()
            if images is not None
        }
        sizes = {tuple(images[0].image.shape) for images in sets.values()}
        if len(sizes) > 1:
            raise DakitError(f"the domains have images of different sizes: {sizes}")
        for observer in ctx.observers:
            observer.work_started(f"embedding {sum(map(len, sets.values()))} images", None)
        maps: dict[str, Any] = {}
        for name, selector in self._selectors().items():
            if maps and not processes.first():
                break
            seed_everything(ctx.seed)
            try:
                # what fails in the second map is told and passed over, so no other process must be waiting in it
                with processes.alone() if maps else nullcontext():
                    points, notes = selector.build().embed(*sets.values(), classifier=network, device=trainer.device)
            except DakitError as error:
                if not maps:
                    raise
                notes = (f"no map in 3 dimensions: {error}",)
            else:
                maps[name] = points.numpy()
            for text in notes:
                if text not in ctx.notes:
                    ctx.note(text)
        names = [name for name, images in sets.items() for _ in range(len(images))]
        classes = [
            images.classes[label] if label >= 0 and images.classes else ""
            for images in sets.values()
            for label in images.labels
        ]
        np.savez(
            ctx.folder / "domains.npz",
            **maps,
            domains=np.asarray(names),
            classes=np.asarray(classes, dtype=str),
        )
        domains_png(maps["points"], names, ctx.folder / "domains.png")
        return DomainsMapped(None)

    def _selectors(self) -> dict[str, Spec[Selector]]:
        """The recipe's own and, where that embeds in 2 dimensions, the same in 3."""
        selector, params = self.selector, dict(self.selector.params)
        if params.get("dimensions") != 2:
            return {"points": selector}
        params |= {"dimensions": 3} | ({"method": "auto"} if "method" in params else {})
        return {"points": selector, "points_3d": replace(selector, params=params)}
