"""Selectors by nearness of first-layer features: CycleAT's own (section 4.2) and its exact form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import annotated_types
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dakit import processes
from dakit.data.features import PCA, feature_chunks, fit_pca, gather, nearest_with_reuse, share
from dakit.data.selection import check_request
from dakit.data.sets import Joined, Subset, Unlabelled, file_digests
from dakit.errors import DakitError
from dakit.interfaces import Classifier, File, ImageSet, Positive, Selection
from dakit.optional import HasStem, offers
from dakit.parameters import checked
from dakit.training.weights import read_weights

Extract = Callable[[Tensor], Tensor]


@checked
@dataclass(kw_only=True)
class TsneKnn:
    """The nearest pool images of each anchor in a joint t-SNE embedding of both sets.

    First-layer features -> PCA -> t-SNE of pool and anchors together -> the t nearest pool images of each
    anchor by Euclidean distance in the embedding. The paper (CycleAT, section 4.2) uses AlexNet's first
    layer, t = 8 for SFEW and 3 for EmotioNet. Features leave the network in chunks and are projected at once,
    so memory is that of a chunk and of the PCA's sample: ``sample`` x D x 4 bytes (1,024 x 193,600: 0.8 GB).

    The same seed gives the same selection on the same machine; t-SNE runs on one thread for that reason.

    Of several processes the first computes PCA and t-SNE, and each projects its own share of the images.

    .. warning::
        t-SNE loses neighbours (in a trial 0.6 of eight agreed with those in the full feature space; PCA alone
        kept 0.92) and makes hubs: 18 different images in 840 picks. ``max_reuse`` and :class:`FeatureKnn`,
        which answer this, are not in the paper.

    Args:
        neighbours: t.
        same_class: choose only pool images of the anchor's class, by name. The paper does not say.
        max_reuse: how many anchors may share a pool image, given out greedily by distance; None = the paper.
        extractor: "alexnet" is the paper's. "squeezenet" is the first layer of SqueezeNet 1.0 in its original
            release (input BGR, 0 to 255, minus the mean), under torchvision's key names. "classifier" is the
            stem of the classifier that the stage passes.
        otherwise: the extractor to use where AlexNet's weights are not on this machine; the notes say so.
        weights: file (.safetensors or .pth) with ``features.0.weight`` and ``features.0.bias``: of SqueezeNet
            where ``extractor`` or ``otherwise`` names it, else of AlexNet. None = AlexNet's file in torch
            hub's folder. Nothing is ever downloaded.
        feature_size: side in pixels to which images are resized for the extractor; None = as they are, so
            that small images stay cheap. AlexNet was trained at 224, where it gives 193,600 numbers.
        pca: dimensions before t-SNE.
        sample: images, drawn from both sets, from which the PCA is computed (exactly, by their Gram matrix).
        perplexity: of t-SNE; at most a third of the number of images.
        dimensions: of the embedding.
        method: "sklearn" is Barnes-Hut; "opentsne", in 2 dimensions only, is faster, and takes its FFT form
            from 10,000 images on. "auto" takes the latter for more than 2,000 images in 2 dimensions.
        batch: images a chunk.
        compare_exact: also find what :class:`FeatureKnn` would choose, one more pass over the pool, so that the
            selection's facts tell how many picks are among them. It changes nothing that is chosen.
        seed: None = torch's own seed, which the stage has set.

    Raises:
        DakitError: the parameters contradict each other; (when called) weights, classifier, labels or images
            are missing, or there are too few images.
    """

    version: ClassVar[int] = 1
    together: ClassVar[bool] = True

    neighbours: Positive = 8
    same_class: bool = False
    max_reuse: Positive | None = None
    extractor: Literal["alexnet", "squeezenet", "classifier"] = "alexnet"
    otherwise: Literal["none", "squeezenet", "classifier"] = "none"
    weights: File | None = None
    feature_size: Positive | None = None
    pca: Positive = 50
    sample: Annotated[int, annotated_types.Ge(2)] = 1024
    perplexity: Annotated[float, annotated_types.Ge(1)] = 30.0
    dimensions: Literal[2, 3] = 2
    method: Literal["auto", "sklearn", "opentsne"] = "auto"
    batch: Positive = 64
    compare_exact: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.method == "opentsne" and self.dimensions == 3:
            raise DakitError('method: "opentsne" embeds in 2 dimensions only; for 3 choose "sklearn" or "auto"')
        _check_weights(self.extractor, self.otherwise, self.weights)

    @staticmethod
    def identity(**params: Any) -> dict[str, Any]:
        """Which extractor is used on this machine, and the content of its weights."""
        return _identity(params)

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Choose ``(A, t)`` pool images; distances are Euclidean in the embedding."""
        pool_groups, anchor_groups = check_request(
            pool, anchors, neighbours=self.neighbours, same_class=self.same_class, max_reuse=self.max_reuse
        )
        embedded, notes = self.embed(pool, anchors, classifier=classifier, device=device)
        indices, distances, _ = nearest_with_reuse(
            torch.split(embedded[: len(pool)], self.batch),
            embedded[len(pool) :],
            self.neighbours,
            max_reuse=self.max_reuse,
            pool_groups=pool_groups,
            anchor_groups=anchor_groups,
        )
        exact = None
        if self.compare_exact:
            shared = ("neighbours", "same_class", "extractor", "otherwise", "weights", "feature_size", "batch")
            in_full = FeatureKnn(**{name: getattr(self, name) for name in shared})
            exact = in_full(pool, anchors, classifier=classifier, device=device).indices
        return Selection(indices, distances.float(), notes, exact)

    def embed(
        self, *sets: ImageSet, classifier: Classifier | None, device: torch.device
    ) -> tuple[Tensor, tuple[str, ...]]:
        """All sets in one embedding: float64 ``(N, dimensions)``, one set after the other, and the notes."""
        _check_sizes(*sets, feature_size=self.feature_size)
        used, file = _find(self.extractor, self.otherwise, self.weights)
        extract = _extract(used, file, classifier, device, self.feature_size)
        notes = [_note(self.extractor, used, file)]
        everything = Joined([Unlabelled(images) for images in sets])

        def features(images: ImageSet) -> Iterator[Tensor]:
            return feature_chunks(images, extract, device=device, batch=self.batch)

        total = len(everything)
        if total < 7:
            raise DakitError(f"t-SNE needs at least 7 images, but there are {total} in all")
        seed = torch.initial_seed() if self.seed is None else self.seed
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(total, generator=generator)[: self.sample].sort().values
        pca = PCA(torch.empty(0, device=device), torch.empty(0, 0, device=device))
        if processes.first():
            pca = fit_pca(gather(features(Subset(everything, drawn.tolist())), len(drawn)), self.pca)
        pca = PCA(*map(processes.told, pca))
        if pca.axes.shape[1] < self.dimensions:
            raise DakitError(
                f"pca: {pca.axes.shape[1]} dimensions ({self.pca} asked for) are too few for a t-SNE "
                f"in {self.dimensions}"
            )
        own = features(Subset(everything, share(total, self.batch)))
        projected = torch.cat([torch.empty(0, pca.axes.shape[1]), *(pca(chunk).cpu() for chunk in own)])
        projected = torch.cat([processes.told(projected, process) for process in range(processes.count())])
        if projected.shape[1] < self.pca:
            notes.append(f"pca: the images vary in only {projected.shape[1]} of {self.pca} dimensions")
        perplexity = min(self.perplexity, (total - 1) / 3)
        if perplexity < self.perplexity:
            notes.append(f"perplexity: {perplexity:.1f} instead of {self.perplexity:g}, a third of {total} images")
        points = torch.empty(0, 0, dtype=torch.float64)
        if processes.first():
            made = _tsne(projected.numpy(), perplexity, self.dimensions, self.method, seed % 2**32)
            points = torch.from_numpy(made)
        return processes.told(points), tuple(notes)


@checked
@dataclass(kw_only=True)
class FeatureKnn:
    """The nearest pool images of each anchor by exact Euclidean distance between first-layer features.

    What :class:`TsneKnn` approximates: nothing is reduced. The anchors' features are kept (A x D x 4 bytes;
    700 at 193,600 numbers: 0.5 GB), the pool's pass by in chunks, one float32 matrix product each: squared
    distances are exact to about 1e-6 of the features' squared norm. Of several processes each looks at its own
    share of the pool.

    Args:
        neighbours: how many for each anchor.
        same_class: see :class:`TsneKnn`.
        max_reuse: see :class:`TsneKnn`.
        extractor: see :class:`TsneKnn`.
        otherwise: see :class:`TsneKnn`.
        weights: see :class:`TsneKnn`.
        feature_size: see :class:`TsneKnn`.
        batch: images a chunk.

    Raises:
        DakitError: the parameters contradict each other; (when called) weights, classifier, labels or images
            are missing.
    """

    version: ClassVar[int] = 1
    together: ClassVar[bool] = True

    neighbours: Positive = 8
    same_class: bool = False
    max_reuse: Positive | None = None
    extractor: Literal["alexnet", "squeezenet", "classifier"] = "alexnet"
    otherwise: Literal["none", "squeezenet", "classifier"] = "none"
    weights: File | None = None
    feature_size: Positive | None = None
    batch: Positive = 64

    def __post_init__(self) -> None:
        _check_weights(self.extractor, self.otherwise, self.weights)

    @staticmethod
    def identity(**params: Any) -> dict[str, Any]:
        """Which extractor is used on this machine, and the content of its weights."""
        return _identity(params)

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Choose ``(A, t)`` pool images; distances are Euclidean in feature space."""
        pool_groups, anchor_groups = check_request(
            pool, anchors, neighbours=self.neighbours, same_class=self.same_class, max_reuse=self.max_reuse
        )
        _check_sizes(pool, anchors, feature_size=self.feature_size)
        used, file = _find(self.extractor, self.otherwise, self.weights)
        extract = _extract(used, file, classifier, device, self.feature_size)
        own = share(len(pool), self.batch)
        indices, distances, exact = nearest_with_reuse(
            feature_chunks(Subset(pool, own), extract, device=device, batch=self.batch),
            gather(feature_chunks(anchors, extract, device=device, batch=self.batch), len(anchors)),
            self.neighbours,
            max_reuse=self.max_reuse,
            pool_groups=pool_groups,
            anchor_groups=anchor_groups,
            part=own,
        )
        return Selection(indices, distances.float(), (_note(self.extractor, used, file),), exact)


def _tsne(points: np.ndarray, perplexity: float, dimensions: int, method: str, seed: int) -> np.ndarray:
    """Embed ``(n, p)`` in float64 ``(n, dimensions)``."""
    if method == "opentsne" or (method == "auto" and dimensions == 2 and len(points) > 2000):
        from openTSNE import TSNE

        embedding = TSNE(perplexity=perplexity, n_jobs=1, random_state=seed).fit(points)
    else:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # the order in which threads add their sums is not fixed
            embedding = TSNE(n_components=dimensions, perplexity=perplexity, random_state=seed).fit_transform(points)
    return np.array(embedding, dtype=np.float64)


# ------------------------------------------------------------------------------- first layers
class _FirstLayer(NamedTuple):
    title: str
    shape: tuple[int, int, int, int]
    stride: int
    padding: int
    prepare: Extract


def _alexnet_input(pixels: Tensor) -> Tensor:
    mean = pixels.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = pixels.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return pixels.div_(255).sub_(mean).div_(deviation)


def _squeezenet_input(pixels: Tensor) -> Tensor:
    return pixels.flip(1).sub_(pixels.new_tensor([104.0, 117.0, 123.0]).view(3, 1, 1))


_FIRST_LAYERS: Mapping[str, _FirstLayer] = {
    "alexnet": _FirstLayer("AlexNet", (64, 3, 11, 11), 4, 2, _alexnet_input),
    "squeezenet": _FirstLayer("SqueezeNet 1.0", (96, 3, 7, 7), 2, 0, _squeezenet_input),
}
_ALEXNET_FILE = "alexnet-owt-7be5be79.pth"


def _check_weights(extractor: str, otherwise: str, weights: File | None) -> None:
    if otherwise != "none" and extractor != "alexnet":
        raise DakitError(f'otherwise: "{otherwise}" stands in for "alexnet" only, but extractor is "{extractor}"')
    if "squeezenet" in (extractor, otherwise) and weights is None:
        raise DakitError('weights: "squeezenet" needs the file of its weights (.safetensors or .pth)')
    if extractor == "classifier" and weights is not None:
        raise DakitError(f'weights: extractor "classifier" reads no file, but there is {weights}')


def _find(extractor: str, otherwise: str, weights: File | None) -> tuple[str, Path | None]:
    """The extractor to use on this machine, and the file of its weights."""
    if extractor == "alexnet":
        own = weights is not None and otherwise != "squeezenet"
        file = weights.path if weights and own else Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET_FILE
        if file.is_file() or otherwise == "none":
            return "alexnet", file
        extractor = otherwise
    return extractor, weights.path if weights and extractor == "squeezenet" else None


def _identity(params: Mapping[str, Any]) -> dict[str, Any]:
    used, file = _find(params["extractor"], params["otherwise"], params["weights"])
    return {"extractor": used, "weights": file_digests([file])[0] if file and file.is_file() else None}


def _note(extractor: str, used: str, file: Path | None) -> str:
    what = (
        f"the first layer of an ImageNet {_FIRST_LAYERS[used].title} ({file.name})"
        if file
        else "the stem of the recipe's own classifier"
    )
    missing = "" if used == extractor else f", because AlexNet's weights ({_ALEXNET_FILE}) are not on this machine"
    return f"features: {what}{missing}"


def _check_sizes(*sets: ImageSet, feature_size: int | None) -> None:
    sizes = {tuple(images[0].image.shape[1:]) for images in sets if len(images)}
    if feature_size is None and len(sizes) > 1:
        raise DakitError(f"the images have different sizes, {sorted(sizes)}: set feature_size to bring them to one")


def _extract(
    used: str, file: Path | None, classifier: Classifier | None, device: torch.device, size: int | None
) -> Extract:
    """A function from uint8 ``(b, 3, H, W)`` to the first layer's ``(b, C, H', W')``, before any ReLU."""
    if file is None:
        if not offers(classifier, HasStem):
            raise DakitError(
                'extractor: "classifier" needs a trained classifier '
                + ("and none is passed" if classifier is None else f"with a stem; {type(classifier).__name__} has none")
            )

        def layer(pixels: Tensor) -> Tensor:
            return classifier.stem(pixels / 127.5 - 1)

    else:
        first = _FIRST_LAYERS[used]
        weight, bias = (tensor.to(device) for tensor in _load(file, first))

        def layer(pixels: Tensor) -> Tensor:
            return functional.conv2d(first.prepare(pixels), weight, bias, first.stride, first.padding)

    def extract(images: Tensor) -> Tensor:
        pixels = images.float()
        if size is not None:
            pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return layer(pixels)

    return extract


def _load(file: Path, first: _FirstLayer) -> tuple[Tensor, Tensor]:
    """Weight and bias of a first layer.

    Raises:
        DakitError: the file is missing, cannot be read, or holds another network.
    """
    if not file.is_file():
        raise DakitError(
            f"{first.title}'s ImageNet weights are not on this machine: there is no {file}. Bring "
            + (f"torchvision's {_ALEXNET_FILE}" if first.title == "AlexNet" else "the file")
            + " there, name another file as weights, or use other features: as extractor (or otherwise) "
            '"classifier", the stem of the recipe\'s own classifier, or "squeezenet" with its file as weights'
        )
    state = read_weights(file)
    try:
        weight, bias = state["features.0.weight"].float(), state["features.0.bias"].float()
    except KeyError as error:
        raise DakitError(f"{file}: no {error} in it, so not the weights of {first.title}") from error
    if weight.shape != first.shape:
        raise DakitError(
            f"{file}: the first layer is {tuple(weight.shape)}, but that of {first.title} is {first.shape}"
        )
    return weight, bias
