"""The optional half of the contract: what a component may have besides what its kind asks for.

Each part is a Protocol; :func:`offers` asks a component for one, and mypy knows the rest. dakit goes on without a part
that is not there. So one that is misspelt would be passed over in silence, and the result would be another one than
its author means: :func:`misspelt` finds those.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, get_type_hints

import torch
from torch import Tensor, nn
from typing_extensions import TypeIs

from dakit.interfaces import Classifier, ImageSet, Observer, Prediction, TransferLoss

P = TypeVar("P")


# ------------------------------------------------------------------------------------ of every kind
class HasVersion(Protocol):
    """Whose results may change under the same parameters: it is raised then, so that old ones are not taken for new."""

    version: int


class HasIdentity(Protocol):
    """Whose results depend on more than its parameters, such as on a file that it finds itself."""

    def identity(self, **params: Any) -> Any:
        """What they depend on, as plain JSON values."""
        ...


class WeightsFile(NamedTuple):
    """A file of weights that a component starts from.

    Attributes:
        file: its name.
        network: whose weights, as their library calls them.
        place: where it lies, or the file or folder where it would lie.
        there: whether it is here.
        size: in bytes; of a file that is not here what its library says of it; None = not known.
        licence: of the weights, as their library states it; "" = it does not.
        fetched_by: the library that can fetch it; "" = none can, as for a file that the recipe names by its path.
    """

    file: str
    network: str
    place: Path
    there: bool
    size: int | None
    licence: str
    fetched_by: str


class NeedsWeights(Protocol):
    """Whose components may start from a file of weights; static methods, asked with all parameters of a recipe."""

    def weights_needed(self, **params: Any) -> Sequence[WeightsFile]:
        """Which files; nothing is fetched."""
        ...

    def fetch_weights(self, observers: Sequence[Observer], /, **params: Any) -> None:
        """Fetch what is not here, because the user asked for it: whole, checked, or not at all.

        Raises:
            DakitError: it cannot be had.
        """
        ...


# ---------------------------------------------------------------------------------------- of a stage
class RunsTogether(Protocol):
    """A stage or selector that all processes of a run call, sharing the work, see :mod:`dakit.processes`."""

    together: bool


class ChecksInputs(Protocol):
    """A stage or estimator that knows which of its inputs fit together."""

    def check(self, inputs: frozenset[str], /) -> list[str]:
        """What is wrong, given the names of the inputs that the recipe gives."""
        ...


class ChecksSizes(Protocol):
    """A stage that knows how many images it needs."""

    def check_sizes(self, sizes: Mapping[str, int | None], /) -> list[str]:
        """What is wrong, given how many images each input has; None = an earlier stage makes them."""
        ...


class CountsOutputs(Protocol):
    """A stage that knows how many images it will make."""

    def makes(self, sizes: Mapping[str, int | None], /) -> Mapping[str, int | None]:
        """How many images each output will have, given those of the inputs."""
        ...


# ------------------------------------------------------------------------------------ of a network
class HasHead(Protocol):
    """A classifier of which a linear probe can be trained: ``head(features)`` are the logits."""

    head: nn.Module


class HasStem(Classifier, Protocol):
    """A classifier whose first layer a selector can use."""

    def stem(self, images: Tensor, /) -> Tensor:
        """The output ``(B, C, H, W)`` of the first convolution on images ``(B, 3, H, W)`` in [-1, 1]."""
        ...


class Exported(NamedTuple):
    """A classifier that was written in a format of its own.

    Attributes:
        file: the name of the file.
        takes: what it takes and gives, in a sentence or two, for the model card.
        code: Python that needs no dakit and is run beside the file: it imports what it needs beside ``np`` and
            ``torch``, sets ``classes`` and defines ``probabilities(images)``, from uint8 ``(B, 3, size, size)``.
        probabilities: the file read back by its own library: from such images to ``(B, K)``.
    """

    file: str
    takes: str
    code: str
    probabilities: Callable[[Tensor], Tensor]


Write = Callable[[Path, tuple[str, ...], int], Exported]
"""Writes a network into a folder that is there, given the names of the classes and the images' size in pixels."""


class HasFormats(Classifier, Protocol):
    """A classifier that its own library can read again, from files of its own format (``dakit export --format``)."""

    def formats(self) -> Mapping[str, Write]:
        """By the format's name."""
        ...


# ------------------------------------------------------------------------------ of a loss, a selector
class Condenses(TransferLoss, Protocol):
    """A transfer loss that needs only a part of what a teacher says, see :class:`dakit.interfaces.TransferLoss`."""

    def condense(self, teacher: Prediction, /) -> Prediction:
        """That part, so that ``loss(condense(t), s) == loss(t, s)``."""
        ...


class ZeroWhenEqual(TransferLoss, Protocol):
    """A transfer loss that may promise the value 0 where student and teacher are equal."""

    zero_when_equal: bool


class Embeds(Protocol):
    """A selector that can show the space in which it chooses."""

    def embed(
        self, *sets: ImageSet, classifier: Classifier | None, device: torch.device
    ) -> tuple[Tensor, tuple[str, ...]]:
        """All sets' images, one after the other, as points ``(N, 2)``; and notes."""
        ...


class HasFacts(Protocol):
    """An estimator that tells what it found when it was fitted, such as the C that it chose."""

    facts: Mapping[str, Any]


# ---------------------------------------------------------------------------------------- of a dataset
class HasFingerprint(Protocol):
    """A dataset that knows whether its content changed without decoding every image."""

    def fingerprint(self) -> str:
        """A hash of the content."""
        ...


class Readable(Protocol):
    """A dataset of files, of which some may not be decodable."""

    def readable(self) -> tuple[ImageSet, Mapping[Path, str]]:
        """Itself without those, and why each is left out."""
        ...


class HasParts(Protocol):
    """A dataset with a published split: a name per image, such as "train" or "Set 1"."""

    parts: Sequence[str] | None


class HasPaths(Protocol):
    """A dataset of files: one path per image."""

    paths: Sequence[Path]


class PassesOver(Protocol):
    """A dataset of files that counts what lies beside them and is no image, by suffix."""

    passed_over: Mapping[str, int]


class IsView(Protocol):
    """A set that is laid over another one."""

    base: ImageSet


Sort = Literal["number", "flag", "method"] | int
"""What a part is: a whole number, true or false (or a property), any method, or one called with so many arguments."""

_PARTS: Mapping[str, tuple[type, ...]] = {
    "dataset": (HasFingerprint, Readable),
    "translator": (),
    "discriminator": (),
    "classifier": (HasStem, HasFormats),
    "transfer_loss": (Condenses, ZeroWhenEqual),
    "selector": (RunsTogether, Embeds),
    "estimator": (ChecksInputs,),
    "observer": (Observer,),
    "stage": (RunsTogether, ChecksInputs, ChecksSizes, CountsOutputs),
}


def _members(part: type) -> dict[str, Any]:
    """The names of a Protocol, each with its function or its type."""
    functions = {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, FunctionType) and not name.startswith("_")
    }
    return {**get_type_hints(part), **functions}


def _sort(member: Any) -> Sort:
    if not isinstance(member, FunctionType):
        return "flag" if member is bool else "number"
    parameters = list(inspect.signature(member).parameters.values())[1:]
    fixed = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return len(parameters) if fixed else "method"


OPTIONAL: Mapping[str, Mapping[str, Sort]] = {
    kind: {
        name: _sort(member)
        for part in (HasVersion, HasIdentity, NeedsWeights, *parts)
        for name, member in _members(part).items()
    }
    for kind, parts in _PARTS.items()
}
"""For each kind the optional names that stand in a class, and what each is.

Three are attributes of what is built: ``head`` of a classifier, ``parts`` of a dataset, both of which :func:`near`
finds, and ``facts`` of an estimator.
"""


def offers(component: object, part: type[P]) -> TypeIs[P]:
    """Whether a component has an optional part, which is one of the Protocols above.

    >>> class Loss:
    ...     zero_when_equal = True
    >>> offers(Loss(), ZeroWhenEqual), offers(Loss(), Condenses)
    (True, False)
    """
    # Not isinstance: from Python 3.12 on that does not see the modules of a network.
    return all(hasattr(component, name) for name in _members(part))


def misspelt(kind: str, factory: Any) -> str:
    """What is misspelt in a class or function that a plugin registers; "" where nothing is.

    A name is taken for another one misspelt where it is public and stands in the plugin's own classes, the right one
    does not, it is of the same sort (a method that takes as many arguments, a number, true or false), and the two are
    :func:`near`. A helper that is meant can begin with ``_``.

    >>> class Loss:
    ...     def condence(self, teacher): ...
    >>> misspelt("transfer_loss", Loss)
    '`condence`: did you mean `condense`? (dakit calls no method `condence`; a helper of your own may begin with _)'
    """
    names = dict(_own_names(factory))
    missing = {name: sort for name, sort in OPTIONAL[kind].items() if name not in names}
    slips = []
    for name, value in names.items():
        right = next((part for part, sort in missing.items() if near(name, part) and _is(value, sort)), None)
        if right is not None and name not in OPTIONAL[kind]:
            asks = f"reads no `{name}`" if isinstance(value, int) else f"calls no method `{name}`"
            slips.append(f"`{name}`: did you mean `{right}`? (dakit {asks}; a helper of your own may begin with _)")
    return "; ".join(slips)


def near(name: str, right: str) -> bool:
    """Whether one name is the other with a letter more or less, or with two in the wrong order.

    Of seven letters or more, also where they are alike by 0.85 of :class:`difflib.SequenceMatcher`; another letter in a
    short name makes another word of it (stem, step, item).

    >>> near("togehter", "together"), near("haed", "head"), near("check_size", "check_sizes"), near("step", "stem")
    (True, True, True, False)
    """
    if name == right:
        return False
    if min(len(name), len(right)) >= 7 and difflib.SequenceMatcher(None, name, right).ratio() >= 0.85:
        return True
    at = next((i for i, (a, b) in enumerate(zip(name, right, strict=False)) if a != b), min(len(name), len(right)))
    a, b = name[at:], right[at:]
    return a[1:] == b or a == b[1:] or a[1::-1] + a[2:] == b


def _own_names(factory: Any) -> Iterator[tuple[str, Any]]:
    """The public names of a class, without those of other people's base classes, or of a function."""
    package = str(factory.__module__).partition(".")[0]
    for part in inspect.getmro(factory) if inspect.isclass(factory) else (factory,):
        if str(part.__module__).partition(".")[0] == package and part is not Observer:
            yield from ((name, value) for name, value in vars(part).items() if not name.startswith("_"))


def _is(value: Any, sort: Sort) -> bool:
    if sort == "flag":
        return isinstance(value, (bool, property))
    if sort == "number":
        return type(value) is int
    if not isinstance(value, (FunctionType, staticmethod, classmethod)):
        return False
    if sort == "method":
        return True
    plain = value if isinstance(value, FunctionType) else value.__func__
    given = [None] * (sort + (not isinstance(value, staticmethod)))  # self or the class
    try:
        inspect.signature(plain).bind(*given)
    except TypeError:
        return False
    return True
