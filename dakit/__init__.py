"""dakit: image domain adaptation with limited labelled target data, as recipes of plugins.

This is the public door: what a recipe's user, and a stage, dataset, selector, loss or network from elsewhere needs
beside :mod:`dakit.interfaces` (the contract) and :mod:`dakit.testing`. ``docs/public.md`` has every name.

>>> import dakit
>>> dakit.__version__.count(".")
2
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dakit.hookspecs import hookimpl

if TYPE_CHECKING:
    from dakit import processes as processes
    from dakit.data.augment import Augment as Augment
    from dakit.data.augment import Augmentation as Augmentation
    from dakit.data.batches import Batch as Batch
    from dakit.data.batches import Batches as Batches
    from dakit.data.batches import in_order as in_order
    from dakit.data.batches import too_few as too_few
    from dakit.data.deep import Range as Range
    from dakit.data.features import feature_chunks as feature_chunks
    from dakit.data.features import fit_pca as fit_pca
    from dakit.data.features import gather as gather
    from dakit.data.files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from dakit.data.files import captured_groups as captured_groups
    from dakit.data.files import existing_folder as existing_folder
    from dakit.data.files import image_files as image_files
    from dakit.data.files import list_images as list_images
    from dakit.data.files import number_labels as number_labels
    from dakit.data.files import told_of as told_of
    from dakit.data.parts import refuse_parts as refuse_parts
    from dakit.data.selection import check_labelled as check_labelled
    from dakit.data.selection import check_request as check_request
    from dakit.data.sets import FileImages as FileImages
    from dakit.data.sets import Joined as Joined
    from dakit.data.sets import Relabelled as Relabelled
    from dakit.data.sets import Subset as Subset
    from dakit.data.sets import TensorImages as TensorImages
    from dakit.data.sets import Unlabelled as Unlabelled
    from dakit.data.sets import fingerprint as fingerprint
    from dakit.data.sets import read_image as read_image
    from dakit.data.sets import unlabelled_among as unlabelled_among
    from dakit.errors import DakitError as DakitError
    from dakit.errors import RecipeError as RecipeError
    from dakit.errors import did_you_mean as did_you_mean
    from dakit.files import write_json as write_json
    from dakit.files import write_text as write_text
    from dakit.files import written as written
    from dakit.parameters import checked as checked
    from dakit.pipeline.curve import curve as curve
    from dakit.pipeline.door import run as run
    from dakit.pipeline.outcome import Outcome as Outcome
    from dakit.plugins import find_plugins as find_plugins
    from dakit.recipe.load import load_recipe as load_recipe
    from dakit.recipe.plans import Recipe as Recipe
    from dakit.registry import Registry as Registry
    from dakit.results.runs import open_run as open_run
    from dakit.stages.classifier import TrainClassifier as TrainClassifier
    from dakit.stages.domains import MapDomains as MapDomains
    from dakit.stages.evaluate import Evaluate as Evaluate
    from dakit.stages.head import FitHead as FitHead
    from dakit.stages.select import Select as Select
    from dakit.stages.synthesise import Synthesise as Synthesise
    from dakit.stages.translator import TrainTranslator as TrainTranslator
    from dakit.statistics.metrics import Evaluation as Evaluation
    from dakit.training.ema import WeightAverage as WeightAverage
    from dakit.training.identity import identified as identified
    from dakit.training.optimiser import Optimiser as Optimiser
    from dakit.training.schedule import Schedule as Schedule
    from dakit.training.seeds import derive_seed as derive_seed
    from dakit.training.seeds import seed_everything as seed_everything
    from dakit.training.surroundings import undisturbed as undisturbed
    from dakit.training.teacher import Teacher as Teacher
    from dakit.training.trainer import Trainer as Trainer
    from dakit.training.trainer import trained as trained
    from dakit.training.weights import load_weights as load_weights
    from dakit.training.weights import read_weights as read_weights

__version__ = "0.4.0"
__all__ = [
    "IMAGE_SUFFIXES",
    "Augment",
    "Augmentation",
    "Batch",
    "Batches",
    "DakitError",
    "Evaluate",
    "Evaluation",
    "FileImages",
    "FitHead",
    "Joined",
    "MapDomains",
    "Optimiser",
    "Outcome",
    "Range",
    "Recipe",
    "RecipeError",
    "Registry",
    "Relabelled",
    "Schedule",
    "Select",
    "Subset",
    "Synthesise",
    "Teacher",
    "TensorImages",
    "TrainClassifier",
    "TrainTranslator",
    "Trainer",
    "Unlabelled",
    "WeightAverage",
    "captured_groups",
    "check_labelled",
    "check_request",
    "checked",
    "curve",
    "derive_seed",
    "did_you_mean",
    "existing_folder",
    "feature_chunks",
    "find_plugins",
    "fingerprint",
    "fit_pca",
    "gather",
    "hookimpl",
    "identified",
    "image_files",
    "in_order",
    "list_images",
    "load_recipe",
    "load_weights",
    "number_labels",
    "open_run",
    "processes",
    "read_image",
    "read_weights",
    "refuse_parts",
    "run",
    "seed_everything",
    "told_of",
    "too_few",
    "trained",
    "undisturbed",
    "unlabelled_among",
    "write_json",
    "write_text",
    "written",
]

logging.getLogger("dakit").addHandler(logging.NullHandler())  # silent until the caller sets a log up

_MODULES = {
    "dakit.data.augment": "Augment Augmentation",
    "dakit.data.batches": "Batch Batches in_order too_few",
    "dakit.data.deep": "Range",
    "dakit.data.features": "feature_chunks fit_pca gather",
    "dakit.data.files": "IMAGE_SUFFIXES captured_groups existing_folder image_files list_images number_labels told_of",
    "dakit.data.parts": "refuse_parts",
    "dakit.data.selection": "check_labelled check_request",
    "dakit.data.sets": (
        "FileImages Joined Relabelled Subset TensorImages Unlabelled fingerprint read_image unlabelled_among"
    ),
    "dakit.errors": "DakitError RecipeError did_you_mean",
    "dakit.files": "write_json write_text written",
    "dakit.parameters": "checked",
    "dakit.pipeline.curve": "curve",
    "dakit.pipeline.door": "run",
    "dakit.pipeline.outcome": "Outcome",
    "dakit.plugins": "find_plugins",
    "dakit.recipe.load": "load_recipe",
    "dakit.recipe.plans": "Recipe",
    "dakit.registry": "Registry",
    "dakit.results.runs": "open_run",
    "dakit.stages.classifier": "TrainClassifier",
    "dakit.stages.domains": "MapDomains",
    "dakit.stages.evaluate": "Evaluate",
    "dakit.stages.head": "FitHead",
    "dakit.stages.select": "Select",
    "dakit.stages.synthesise": "Synthesise",
    "dakit.stages.translator": "TrainTranslator",
    "dakit.statistics.metrics": "Evaluation",
    "dakit.training.ema": "WeightAverage",
    "dakit.training.identity": "identified",
    "dakit.training.optimiser": "Optimiser",
    "dakit.training.schedule": "Schedule",
    "dakit.training.seeds": "derive_seed seed_everything",
    "dakit.training.surroundings": "undisturbed",
    "dakit.training.teacher": "Teacher",
    "dakit.training.trainer": "Trainer trained",
    "dakit.training.weights": "load_weights read_weights",
}
"""Where the public names are defined. torch costs seconds to import; `dakit --help` and a plugin's own import must
not pay for it, so each is imported when it is first asked for.
"""

_LAZY = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "processes":
        return import_module("dakit.processes")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'dakit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
