"""``fit_fda``: take the amplitudes of some images of the domain that is to be imitated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from dakit import DakitError, Trainer, trained
from dakit.interfaces import Context, ImageSet, Spec, Trained, Translator
from dakit_fda.translator import FDA


class Fitted(NamedTuple):
    """What the stage makes."""

    translator: Trained[Translator]


class FitFDA:
    """Fill an ``fda`` with the low-frequency amplitudes of images drawn from ``references``, without repetition.

    Inputs: ``references``.

    Args:
        translator: an ``fda``.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, translator: Spec[Translator]) -> None:
        self.translator = translator

    def check(self, inputs: frozenset[str]) -> list[str]:
        """Whether the translator is one that can be fitted."""
        if self.translator.factory is FDA:
            return []
        return [f'translator "{self.translator.name}" has no amplitudes to fit; fda has']

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether there are as many images as the translator has references."""
        have, need = sizes["references"], self.translator.params.get("references", 0)
        if have is None or have >= need:
            return []
        return [f"translator: {need} references, but there are {have} images; at most {have} fits"]

    def run(self, ctx: Context, *, references: ImageSet) -> Fitted:
        """Draw the references with the stage's seed and keep their amplitudes.

        Raises:
            DakitError: it is no ``fda``, or there are too few images, or they are too small for the radius.
        """
        for text in self.check(frozenset()) or self.check_sizes({"references": len(references)}):
            raise DakitError(text)
        trainer = Trainer(ctx)
        network = trainer.place(self.translator.build(), train=False)
        chosen = np.random.default_rng(ctx.seed).permutation(len(references))[: len(network.amplitudes)]
        for observer in ctx.observers:
            observer.work_started(f"taking the amplitudes of {len(chosen)} images", len(chosen))
        for place, index in enumerate(chosen):
            _, low = network.low(trainer.images(references[int(index)].image[None]))
            network.amplitudes[place] = low[0].abs()
            for observer in ctx.observers:
                observer.step(place + 1, {})
        return Fitted(trained(network, self.translator))
