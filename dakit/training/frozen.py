"""A frozen network and what is fitted on its features, which are computed once for each image on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dakit.data.batches import Reader
from dakit.data.sets import Joined, Relabelled, Subset, Unlabelled, Withheld, fingerprint
from dakit.errors import DakitError
from dakit.files import cache_folder
from dakit.interfaces import Classifier, Estimator, ImageSet, Prediction, Spec, Trained
from dakit.optional import HasStem, offers
from dakit.parameters import checked
from dakit.training import identity
from dakit.training.checkpoint import load_state, save_state
from dakit.training.seeds import seed_everything
from dakit.training.trainer import Trainer

CHUNK = 64
"""So many images, which stand together in a set, go through a network at once and are kept in one file."""

ABSENT = -1e4
"""The logit of a class that no image was there to fit on; no probability, and still a number in half precision."""

_FORMAT = 1
_NETWORK = "network."


# ------------------------------------------------------------------------------------- the network
class Head(nn.Module):
    """A fitted estimator over temperature; classes that it has not seen get the logit :data:`ABSENT`.

    Args:
        estimator: for the classes that are there.
        classes: how many there are in all.
        present: int64, those that the estimator knows, ascending; empty where a state is to be loaded.
        temperature: what its logits are divided by.
    """

    present: Tensor
    temperature: Tensor

    def __init__(
        self, estimator: nn.Module, classes: int, present: Tensor | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self.classes = classes
        self.register_buffer("present", torch.empty(0, dtype=torch.int64) if present is None else present)
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))
        self.register_load_state_dict_pre_hook(_take_shapes)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, K)``, in fp32."""
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self._logits(features)
        return self._logits(features)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.estimator(features.float()).float() / self.temperature
        if len(self.present) == self.classes:
            return logits
        every = logits.new_full((len(logits), self.classes), ABSENT)
        return every.scatter(1, self.present.expand(len(logits), -1), logits)


def _take_shapes(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Give every buffer and parameter the shape and type that it has in a state: they depend on what was fitted."""
    for place, part in module.named_modules():
        for tensors in (part._buffers, part._parameters):
            for name, value in tensors.items():
                saved = state.get(f"{prefix}{place}.{name}" if place else f"{prefix}{name}")
                if value is None or saved is None or (saved.shape == value.shape and saved.dtype == value.dtype):
                    continue
                empty = torch.empty_like(saved, device=value.device)
                parameter = isinstance(value, nn.Parameter)
                tensors[name] = nn.Parameter(empty, value.requires_grad) if parameter else empty


@checked
class FrozenFeatures(nn.Module):
    """A frozen network whose features an estimator turns into logits: what the stage ``fit_head`` makes.

    Of the :class:`~dakit.interfaces.Prediction` ``features`` and ``maps`` are the network's own. It is made by that
    stage and not trained: some estimators (k-NN, support vectors) have no gradient worth learning from.

    Args:
        classes: number of logits.
        network: whose features.
        estimator: what was fitted.
    """

    def __init__(self, classes: int, *, network: Spec[Classifier], estimator: Spec[Estimator]) -> None:
        super().__init__()
        self.network: Any = network.build(classes)
        self.head = Head(estimator.build(), classes)
        if offers(self.network, HasStem):
            self.stem = self.network.stem

    def forward(self, images: Tensor) -> Prediction:
        """Classify a batch."""
        seen: Prediction = self.network(images)
        return Prediction(self.head(seen.features), seen.features, seen.maps, seen.rectified)


def with_head(network: Trained[Classifier], estimator: Spec[Estimator], head: Head) -> Trained[Classifier]:
    """A frozen network and its fitted head as one classifier."""
    params = {"network": network.spec, "estimator": estimator}
    spec: Spec[Classifier] = Spec("classifier", "frozen_features", params, FrozenFeatures)
    state = {f"{_NETWORK}{name}": value for name, value in network.state.items()}
    state |= {f"head.{name}": value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    return Trained(spec, state, network.classes)


def is_frozen(model: Trained[Classifier]) -> bool:
    """Whether a classifier is one that :func:`with_head` made."""
    return model.spec.factory is FrozenFeatures


def frozen_network(model: Trained[Classifier]) -> Trained[Classifier]:
    """The network within; a classifier that has no other within is that itself."""
    if not is_frozen(model):
        return model
    state = {name.removeprefix(_NETWORK): v for name, v in model.state.items() if name.startswith(_NETWORK)}
    return Trained(model.spec.params["network"], state, model.classes)


def head_of(model: Trained[Classifier]) -> Head:
    """The fitted head of one that :func:`with_head` made, in evaluation mode, without its network."""
    head = Head(model.spec.params["estimator"].build(), len(model.classes))
    head.load_state_dict({k.removeprefix("head."): v for k, v in model.state.items() if k.startswith("head.")})
    return head.eval()


def to_train(model: Trained[Classifier]) -> Trained[Classifier]:
    """A network to go on training from: of one that :func:`with_head` made the network, the fitted head its own.

    Raises:
        DakitError: that cannot be, as the fitted head is not linear, or the network has no linear ``head``.
    """
    if not is_frozen(model):
        return model
    network, head = frozen_network(model), head_of(model)
    name = model.spec.params["estimator"].name
    weight = network.state.get("head.weight")
    if weight is None or weight.shape[0] != len(model.classes) or "head.bias" not in network.state or weight.ndim != 2:
        raise DakitError(f"init: {network.spec.name} has no linear head to put what {name} has fitted into")
    points = torch.randn(8, weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bias = head(torch.zeros(1, weight.shape[1]))[0]
        fitted = (head(torch.eye(weight.shape[1])) - bias).T.contiguous()
        expected = points @ fitted.T + bias
        if not torch.allclose(head(points), expected, rtol=1e-3, atol=1e-3 * max(1.0, float(expected.abs().max()))):
            raise DakitError(f"init: what {name} has fitted is not linear in the features; logistic or lda, say, is")
    return Trained(network.spec, {**network.state, "head.weight": fitted, "head.bias": bias}, model.classes)


@lru_cache(maxsize=1)
def starting_network(spec: Spec[Classifier], classes: tuple[str, ...]) -> Trained[Classifier]:
    """A network as its parameters make it, with the weights that they name; what is drawn is drawn with one seed.

    So it is the same for every seed and fold of a run, and is made once for all of them. It seeds torch.
    """
    seed_everything(0)
    network: nn.Module = spec.build(len(classes))
    return Trained(spec, {name: value.detach().clone() for name, value in network.state_dict().items()}, classes)


# ------------------------------------------------------------------------------------ its features
class Features:
    """The features of a frozen network, of each image computed once on this machine.

    They are kept below ``$DAKIT_CACHE`` or ``~/.cache/dakit``, in ``features``, which may be deleted at any time. What
    counts is the network (all its weights but the head's, its parameters and code), the precision and kind of device,
    the versions of dakit, torch, timm, torchvision and Pillow, and the fingerprint of the whole set, before it was
    split: rows, folds, seeds and runs share them. A set is looked at in chunks of its own order, so that an image's
    features do not depend on who asked first; each is one file, written by rename and read with its checksum. Labels
    are not looked at.

    Args:
        trainer: of the stage.
        network: is built only where a chunk is not there.
    """

    def __init__(self, trainer: Trainer, network: Trained[Classifier]) -> None:
        self.trainer = trainer
        self.network = network
        self.root = cache_folder() / "features"
        self._built: nn.Module | None = None
        self._keeps = True
        weights = {name: value for name, value in network.state.items() if not name.startswith("head.")}
        engine = trainer.ctx.engine
        self._of = [
            _FORMAT, CHUNK, network.spec.identity(), _digest(weights), engine.precision,
            engine.channels_last, trainer.device.type, _versions(),
        ]  # fmt: skip

    def of(self, images: ImageSet, title: str) -> Tensor:
        """The features of a set in its order, float32 ``(N, D)`` on the CPU; holds these and one chunk.

        Args:
            images: the set; every image of one size.
            title: what observers are told.

        Raises:
            DakitError: a feature is NaN or infinite, or an image cannot be read.
        """
        rows: Tensor | None = None
        wanted = [
            (base, *np.unique(index // CHUNK, return_inverse=True), index, at) for base, index, at in _bases(images)
        ]
        observers, done = self.trainer.ctx.observers, 0
        for observer in observers:
            observer.work_started(title, sum(len(chunks) for _, chunks, *_ in wanted))
        for base, chunks, which, index, at in wanted:
            source = _Source(base, identity.digest([*self._of, _fingerprint(base)]))
            for n, chunk in enumerate(chunks.tolist()):
                features = self._chunk(source, chunk)
                rows = torch.empty(len(images), features.shape[1]) if rows is None else rows
                here = which == n
                rows[torch.from_numpy(at[here])] = features[torch.from_numpy(index[here] - chunk * CHUNK)]
                done += 1
                for observer in observers:
                    observer.step(done, {})
        return torch.empty(0, 0) if rows is None else rows

    def _chunk(self, source: _Source, number: int) -> Tensor:
        """Of the images from ``number`` * :data:`CHUNK` on."""
        places = range(number * CHUNK, min((number + 1) * CHUNK, len(source.images)))
        path = self.root / source.key[:32] / f"{number}.safetensors"
        with suppress(DakitError, FileNotFoundError):  # one that was altered is made anew
            features: Tensor = load_state(path)["features"]
            if len(features) == len(places):
                return features
        features = self._computed(source.reader.read(places).images)
        if not bool(torch.isfinite(features).all()):
            raise DakitError(
                f"{self.network.spec.name}: the features of images {places.start} to {places.stop - 1} of a set are "
                f"not all finite in {self.trainer.ctx.engine.precision}; precision: fp32, or other weights, may help"
            )
        if self._keeps:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                save_state(path, {"features": features})
            except OSError as error:
                self._keeps = False
                for observer in self.trainer.ctx.observers:
                    observer.message(
                        f"{path.parent}: features cannot be kept: {error.strerror}; they are computed anew"
                    )
        return features

    def _computed(self, pixels: Tensor) -> Tensor:
        if self._built is None:
            self._built = self.trainer.place(self.network.build(), train=False)
        with torch.no_grad(), self.trainer.autocast():
            seen: Prediction = self._built(self.trainer.images(pixels))
        return seen.features.float().cpu()


class _Source:
    """A set that images are read from, with the key of its features."""

    def __init__(self, images: ImageSet, key: str) -> None:
        self.images = images
        self.key = key
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """Made when it is first needed: it reads an image."""
        self._reader = self._reader or Reader(self.images)
        return self._reader


def _bases(images: ImageSet) -> Iterator[tuple[ImageSet, np.ndarray, np.ndarray]]:
    """The sets that lie below views: each with which of its images are seen, and where these stand in the view."""
    if isinstance(images, Joined):
        for part, start in zip(images.sets, images.starts, strict=False):
            for base, index, at in _bases(part):
                yield base, index, at + int(start)
        return
    shown = np.arange(len(images), dtype=np.int64)
    below = images
    while isinstance(below, (Subset, Withheld, Unlabelled, Relabelled)):
        if isinstance(below, Subset):
            shown = np.asarray(below.indices, np.int64)[shown]
        below = below._images if isinstance(below, Withheld) else below.base  # features know no label
    if isinstance(below, Joined):
        which = np.searchsorted(below.starts, shown, side="right") - 1
        for n, part in enumerate(below.sets):
            here = np.flatnonzero(which == n)
            inner = Subset(part, (shown[here] - int(below.starts[n])).tolist())
            yield from ((base, index, here[at]) for base, index, at in _bases(inner))
    elif len(shown):
        yield below, shown, np.arange(len(shown))


_hashed: list[tuple[dict[str, tuple[Tensor, int]], str]] = []
"""The weights that were hashed last, each with its version: rows and folds ask of the same network again and again."""


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Of all weights; not computed again for the very tensors of the last call, unchanged since."""
    for before, digest in _hashed:
        if before.keys() == weights.keys() and all(
            tensor is weights[name] and tensor._version == changed for name, (tensor, changed) in before.items()
        ):
            return digest
    digest = identity.of_tensors(weights)
    _hashed[:] = [({name: (tensor, tensor._version) for name, tensor in weights.items()}, digest)]
    return digest


def _fingerprint(images: ImageSet) -> str:
    """Of a whole set, taken once for each object."""
    of = getattr(images, "_fingerprint", None)
    if of is None:
        of = fingerprint(images)
        with suppress(AttributeError):  # of a class with slots
            cast(Any, images)._fingerprint = of
    return str(of)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    versions = {}
    for name in ("dakit", "torch", "torchvision", "timm", "pillow"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
