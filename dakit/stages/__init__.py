"""The verbs of a recipe. They come in by the same door as everyone's: this module is an entry point.

A stage never knows its recipe, its key or where its results go.
"""

from __future__ import annotations

from dakit.hookspecs import Factories, hookimpl


@hookimpl
def dakit_stages() -> Factories:
    """Dakit's own stages; each file holds one."""
    from dakit.stages.classifier import TrainClassifier
    from dakit.stages.domains import MapDomains
    from dakit.stages.evaluate import Evaluate
    from dakit.stages.head import FitHead
    from dakit.stages.select import Select
    from dakit.stages.synthesise import Synthesise
    from dakit.stages.translator import TrainTranslator

    return {
        "train_classifier": TrainClassifier,
        "fit_head": FitHead,
        "train_translator": TrainTranslator,
        "synthesise": Synthesise,
        "select": Select,
        "map_domains": MapDomains,
        "evaluate": Evaluate,
    }


@hookimpl
def dakit_classifiers() -> Factories:
    """What ``fit_head`` makes."""
    from dakit.training.frozen import FrozenFeatures

    return {"frozen_features": FrozenFeatures}
