"""The contract between dakit and its plugins, on one page.

Everything here is a shape, not a base class: a plugin needs ``from dakit import hookimpl`` and torch.

It is one thing: the page that a plugin's author reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path, PurePath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import annotated_types
import torch
from torch import Tensor, nn

from dakit.files import content_digest
from dakit.hookspecs import INTERFACE_VERSION as INTERFACE_VERSION

T_co = TypeVar("T_co", covariant=True)

# ----------------------------------------------------------------- parameter types for signatures
Positive = Annotated[int, annotated_types.Gt(0)]
NonNegative = Annotated[float, annotated_types.Ge(0)]
Fraction = Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)]


class _Path(str):
    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))

    @property
    def path(self) -> Path:
        """The path with ``$NAME`` and ``~`` filled in."""
        return Path(os.path.expanduser(os.path.expandvars(self)))


class File(_Path):
    """A parameter that names a file. ``$NAME`` is read from the environment; its *content* enters the key."""

    __slots__ = ()


class Folder(_Path):
    """A parameter that names a folder of data. ``$NAME`` is read from the environment."""

    __slots__ = ()


# ------------------------------------------------------------------------------------------ values
class Sample(NamedTuple):
    """One image: uint8 ``(3, H, W)``, its label (-1 = none) and its group (a person, a video; "" = its own)."""

    image: Tensor
    label: int
    group: str


class Prediction(NamedTuple):
    """What a classifier says of a batch of B images.

    Attributes:
        logits: ``(B, K)``, one per class.
        features: ``(B, D)``, what the head turns into logits.
        maps: activations of intermediate layers, shallow to deep, each ``(B, C, H, W)``.
        rectified: whether no map has a negative value, as after a ReLU; sums of absolute values are then cheap.
    """

    logits: Tensor
    features: Tensor
    maps: tuple[Tensor, ...]
    rectified: bool = False


class Selection(NamedTuple):
    """Which pool images a selector chose.

    Attributes:
        indices: int64 ``(A, t)``, row i for anchor i, into the pool; -1 pads a short row.
        distances: float32 ``(A, t)``, in the selector's own space; NaN where it has none.
        notes: what the user must be told, such as which features were used.
        exact: int64 ``(A, t)``, the nearest images in the full feature space, for a selector that approximates
            or rations them; None = not known.
    """

    indices: Tensor
    distances: Tensor
    notes: tuple[str, ...] = ()
    exact: Tensor | None = None


class LabelledFeatures(NamedTuple):
    """Features of N labelled images, on the CPU: what an :class:`Estimator` is fitted on.

    Attributes:
        features: float32 ``(N, D)``.
        labels: int64 ``(N,)``, from 0 to K - 1; of each class there is at least one image.
        groups: one per image; images of one group belong on one side of any inner split.
        extra: bool ``(N,)``, which images are beside those of the domain that the classifier is for: the stage's
            input ``extra``, such as the source.
    """

    features: Tensor
    labels: Tensor
    groups: Sequence[str]
    extra: Tensor


# -------------------------------------------------------------------------------------- components
@runtime_checkable
class ImageSet(Protocol):
    """Images that can be counted and read by index.

    Attributes:
        classes: names in the order of the labels; empty when there are no labels.
        labels: one per image, -1 = none; readable without decoding an image.
        groups: one per image; images of one group never stand on both sides of a split.

    A dataset with a published split also has ``parts``, a name per image such as "train" or "Set 1".
    One that stands for files on disk also has ``fingerprint() -> str``, a hash of the content, so that
    dakit need not decode every image to know whether the data changed, and
    ``readable() -> (ImageSet, {path: reason})``, itself without the files that cannot be decoded.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Sequence[int]: ...
    @property
    def groups(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


@runtime_checkable
class TestSet(Protocol):
    """The held-out images. Only an evaluation stage, whose ``run`` has an input so annotated, is ever given one.

    It alone may open the labels, and it makes an ``Evaluation`` and nothing else.
    """

    def __len__(self) -> int: ...
    def open(self) -> ImageSet:
        """The images with their labels."""
        ...


@runtime_checkable
class Translator(Protocol):
    """A network that maps images ``(B, 3, H, W)`` in [-1, 1] to images of the same shape and range."""

    def __call__(self, images: Tensor, /) -> Tensor: ...


@runtime_checkable
class Discriminator(Protocol):
    """A network that maps images ``(B, 3, H, W)`` in [-1, 1] to logits, one per patch; high = real."""

    def __call__(self, images: Tensor, /) -> Tensor: ...


@runtime_checkable
class Classifier(Protocol):
    """A network that maps images ``(B, 3, H, W)`` in [-1, 1] to a :class:`Prediction`.

    Normalisation for pretrained weights lives inside it. Two attributes are optional, and asked for by
    name where they are needed: ``head``, the module that turns ``features`` into ``logits`` (for a linear
    probe), and ``stem(images) -> (B, C, H, W)``, the output of the first convolution (for selection).
    """

    def __call__(self, images: Tensor, /) -> Prediction: ...


@runtime_checkable
class TransferLoss(Protocol):
    """A scalar that measures how far two predictions are apart: teacher and student, or source and target.

    One method is optional: ``condense(teacher) -> Prediction``, a prediction of the same batch that holds only
    what the loss needs of a teacher (other parts with a second dimension of 0), so that
    ``loss(condense(t), s) == loss(t, s)``. With it a frozen teacher is asked once per image and its answer kept,
    in half precision; see :class:`dakit.training.teacher.Teacher`. A class attribute ``zero_when_equal = True``
    promises the value 0 where student and teacher are equal; it is checked.
    """

    def __call__(self, teacher: Prediction, student: Prediction, /) -> Tensor: ...


@runtime_checkable
class Selector(Protocol):
    """Chooses pool images for each anchor.

    ``classifier`` is a trained network whose stem or features may be used, or None. Random choices are
    drawn from torch's global generator, which the stage has seeded.

    Where a run has several processes the first one selects and the others wait. With ``together = True`` in the class
    all are given the same and make the same selection, sharing the work: see :mod:`dakit.processes`.
    """

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection: ...


@runtime_checkable
class Estimator(Protocol):
    """A torch.nn.Module from features ``(B, D)`` to logits ``(B, K)`` that is fitted at once, not in steps.

    ``fit`` is called once, with features of labelled images and, where the recipe names some, of unlabelled ones
    (float32 ``(M, D)``) of the domain that the classifier is for. All that it learns is in buffers or parameters, which
    ``__init__`` registers under their names, empty: they take the shapes that were fitted when a state is loaded.
    Random choices are drawn from NumPy's and torch's global generators, which the stage has seeded.

    Two parts are optional. ``check(inputs: frozenset[str])`` returns what is wrong, in text, with the names of the
    inputs that the recipe gives the stage (``train``, ``extra``, ``unlabelled``). An attribute ``facts``, plain JSON
    values, is kept with the result: what was chosen by inner folds, say.
    """

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None, /) -> None: ...
    def __call__(self, features: Tensor, /) -> Tensor: ...


@runtime_checkable
class Stage(Protocol):
    """One verb of a recipe. ``__init__`` takes its parameters, ``run`` its inputs, by keyword.

    ``version`` is raised when the same parameters and inputs give another result, so that old results
    are not taken for new ones. ``run`` is annotated: each input with :class:`ImageSet`, :class:`TestSet`
    or ``Trained[...]`` (optional inputs ``| None = None``), its result with a NamedTuple of such types.

    Three methods are optional, and asked before anything runs. Two return what is wrong, in text:
    ``check(inputs: frozenset[str])`` with the names of the inputs that the recipe gives, and
    ``check_sizes(sizes: Mapping[str, int | None])`` with how many images each is, None where that is not
    known because an earlier stage makes them. ``makes(sizes)`` returns how many images an output will be.

    Where a run has several processes (:mod:`dakit.processes`) the first one runs a stage and the others wait.
    With an attribute ``together`` that is true all run it, each with a context of its own.
    """

    version: int
    run: Callable[..., Any]


# ------------------------------------------------------------------------- what stages pass around
@dataclass(frozen=True)
class Spec(Generic[T_co]):
    """A component that a recipe names: checked, hashable, not yet built.

    Attributes:
        kind: "translator", "classifier", ...
        name: as registered.
        params: every parameter with its value, defaults included.
        factory: what the plugin registered; ``build`` calls it.
        version: the factory's own ``version`` (1 where it has none): part of every key.
        code: a digest of the source that it comes from, where that may change under the same version: a
            ``--plugin`` file, or a distribution installed to be edited; "" for any other.
    """

    kind: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    factory: Callable[..., Any] = field(default=lambda: None, compare=False, repr=False)
    version: int = 1
    code: str = field(default="", repr=False)

    def build(self, *given: Any) -> Any:
        """Make a fresh component. ``given`` are the arguments that dakit passes for this kind."""
        return self.factory(*given, **self.params)

    @property
    def untrained(self) -> Spec[T_co]:
        """The same without the file of weights that it starts from (its parameter ``weights``): what is trained."""
        return replace(self, params={name: value for name, value in self.params.items() if name != "weights"})

    def identity(self) -> dict[str, Any]:
        """What its results depend on, as plain JSON values: files count by content."""
        params = {key: _identity(value) for key, value in self.params.items()}
        extra = getattr(self.factory, "identity", None)
        discovered = {"found": extra(**self.params)} if extra is not None else {}
        code = {"code": self.code} if self.code else {}
        return {"kind": self.kind, "name": self.name, "version": self.version, "params": params, **discovered, **code}

    def plain_params(self) -> dict[str, Any]:
        """The parameters as plain JSON values, of which the registry's ``spec`` makes the same ones again."""
        return {key: plain(value) for key, value in self.params.items()}

    def __hash__(self) -> int:
        return hash((self.kind, self.name, json.dumps(self.identity(), sort_keys=True)))


def _identity(value: Any) -> Any:
    if isinstance(value, File):
        return content_digest(value.path) if value.path.is_file() else f"missing: {value}"
    return _plain(value, _identity)


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it: a path as text, a member of an Enum as its value, a set as a sorted list.

    Args:
        value: numbers, text, None, and lists, tuples, sets, mappings, dataclasses and Specs of such; a Spec becomes
            ``{use: NAME, ...}``, as a recipe writes it.

    Raises:
        TypeError: it is of another type, which can be neither a part of a key nor kept with a result.

    >>> plain({"sizes": (3, 4), "file": Path("a/b"), "names": {"x", "a"}})
    {'sizes': [3, 4], 'file': 'a/b', 'names': ['a', 'x']}
    """
    if isinstance(value, Spec):
        return {"use": value.name, **value.plain_params()}
    return _plain(value, plain)


def _plain(value: Any, inner: Callable[[Any], Any]) -> Any:
    """``inner`` is what is done with what a value is made of."""
    if isinstance(value, Enum):  # before text and numbers, which a member may be as well
        return value.value if isinstance(value.value, (str, int, float)) else value.name
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Spec):
        return value.identity()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: inner(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(k, inner)): inner(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(v) for v in value]
    if isinstance(value, Set):  # in an order that is the same in every process
        return sorted((inner(v) for v in value), key=lambda item: json.dumps(item, sort_keys=True))
    raise TypeError(f"a parameter's value cannot be written as JSON: {value!r} ({type(value).__name__})")


_restored: ContextVar[bool] = ContextVar("restored", default=False)


def restored() -> bool:
    """Whether the network that is being built was trained already and will be given all of its weights.

    A factory then need not look for the file of weights that it once started from, which may be gone.
    """
    return _restored.get()


@dataclass(frozen=True)
class Trained(Generic[T_co]):
    """A network with its weights, as one stage hands it to the next.

    Attributes:
        spec: what it is.
        state: its state dict, on the CPU.
        classes: the class names of a classifier, in the order of its logits; empty otherwise.
    """

    spec: Spec[T_co]
    state: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """A fresh network with these weights, in evaluation mode; nothing is shared between two calls.

        The file that it once started from (a parameter ``weights``) is not read, and need not be there.
        """
        token = _restored.set(True)
        try:
            network: nn.Module = self.spec.build(len(self.classes)) if self.classes else self.spec.build()
        finally:
            _restored.reset(token)
        network.load_state_dict(dict(self.state))
        return network.eval()


@dataclass(frozen=True)
class Engine:
    """How to compute. Only ``precision`` and ``accumulate`` change results, so only they enter a key.

    Attributes:
        device: "auto" takes a GPU where there is one.
        precision: of forward and backward passes; weights and optimiser stay fp32.
        accumulate: batches per optimiser step.
        compile: torch.compile the networks.
        channels_last: memory format of the networks and their inputs.
        checkpoint_steps: a checkpoint every so many steps,
        checkpoint_minutes: and at least every so many minutes.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: Positive = 1
    compile: bool = False
    channels_last: bool = False
    checkpoint_steps: Positive = 1000
    checkpoint_minutes: Annotated[float, annotated_types.Gt(0)] = 10.0


class JobInfo(NamedTuple):
    """One stage result that is being made.

    Attributes:
        name: of the stage in the recipe.
        do: its verb, such as ``train_classifier``.
        row: the first row of the table that needs it.
        seed: of the repetition.
        fold: of the target.
        number: among all results of the run, from 1;
        total: how many there are, those already in the store included.
    """

    name: str
    do: str
    row: str
    seed: int
    fold: int
    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.name} (for {self.row}, seed {self.seed}, fold {self.fold})"


class Observer(Protocol):
    """Is told what a run does, in this order; results that are already in the store are not told.

    Every method is optional: dakit calls those that are there, so an observer written today outlives new
    events. None may change anything. One that raises is named, is told nothing more, and the run goes on.
    Nothing should be written before ``run_started``, when the folder of results is there.
    """

    # `return` and not `...`: a class that names this one as its base may leave any of them out.

    def run_started(self, recipe: str, total: int) -> None:
        """``recipe`` is its name, ``total`` the number of stage results it needs."""
        return

    def stage_started(self, stage: JobInfo) -> None:
        return

    def work_started(self, title: str, steps: int | None) -> None:
        """The stage counts steps from now on; ``steps`` is None where it cannot know how many."""
        return

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        """``done`` is the number of steps (of images, where none is trained on) made so far in this stage."""
        return

    def epoch(self, done: int) -> None:
        """``done`` is how often as many images were trained on as there are."""
        return

    def message(self, text: str) -> None:
        return

    def stage_finished(self, stage: JobInfo, seconds: float) -> None:
        return

    def stage_failed(self, stage: JobInfo, error: BaseException) -> None:
        return

    def run_ended(self, error: BaseException | None) -> None:
        """The results are written, or ``error`` (a signal, too) ended the run."""
        return


@dataclass
class Context:
    """What a running stage is given besides its inputs.

    Attributes:
        folder: its own; pictures and checkpoints written here are kept with the result.
        seed: derived from the run's seed and the stage's name.
        engine: how to compute.
        observers: told of steps and messages.
        notes: what the user must know about the result; kept and printed.
        warnings: why the result may be worth little; kept and printed.
        facts: plain JSON values kept with the result, such as the label agreement by class.
        common_folder: ``folder`` as the first of several processes has it, where all may read and each may write
            what is its own. What the others write into their ``folder``, note or warn of is not kept.
        identity: names all that the result depends on; kept with what a stage leaves to go on from, which is taken up
            by the same alone. In a run it is the key of the result; "" = the stage works it out.
    """

    folder: Path
    seed: int = 0
    engine: Engine = field(default_factory=Engine)
    observers: tuple[Observer, ...] = ()
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    common_folder: Path = field(default_factory=Path)
    identity: str = ""

    def __post_init__(self) -> None:
        if self.common_folder == Path():
            self.common_folder = self.folder

    def note(self, text: str) -> None:
        """Keep a remark with the result and show it."""
        self.notes.append(text)
        for observer in self.observers:
            observer.message(text)

    def warn(self, text: str) -> None:
        """Keep a doubt about the result with it and show it."""
        self.warnings.append(text)
        for observer in self.observers:
            observer.message(f"warning: {text}")
