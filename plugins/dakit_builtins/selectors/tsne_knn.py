"""CycleAT's selection: the nearest images in a t-SNE of first-layer features (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types
import numpy as np
import torch
from torch import Tensor

from dakit import processes
from dakit.data.features import PCA, feature_chunks, fit_pca, gather, nearest_with_reuse, share
from dakit.data.selection import check_request
from dakit.data.sets import Joined, Subset, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import Classifier, File, ImageSet, Observer, Positive, Selection
from dakit.optional import WeightsFile
from dakit.parameters import checked
from dakit_builtins.selectors.extractors import (
    check_sizes,
    check_weights,
    extractor_identity,
    extractor_note,
    extractor_weights,
    fetch_extractor,
    find_extractor,
    first_layer,
)
from dakit_builtins.selectors.feature_knn import FeatureKnn


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
            hub's folder. Nothing is downloaded unasked (``--fetch``).
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
        check_weights(self.extractor, self.otherwise, self.weights)

    @staticmethod
    def identity(**params: Any) -> dict[str, Any]:
        """Which extractor is used on this machine, and the content of its weights."""
        return extractor_identity(params)

    @staticmethod
    def weights_needed(**params: Any) -> list[WeightsFile]:
        """The files that the extractor reads."""
        return extractor_weights(params)

    @staticmethod
    def fetch_weights(observers: Sequence[Observer], /, **params: Any) -> None:
        """AlexNet's file, from torchvision's address."""
        fetch_extractor(observers, params)

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
            parameters = ("neighbours", "same_class", "extractor", "otherwise", "weights", "feature_size", "batch")
            in_full = FeatureKnn(**{name: getattr(self, name) for name in parameters})
            exact = in_full(pool, anchors, classifier=classifier, device=device).indices
        return Selection(indices, distances.float(), notes, exact)

    def embed(
        self, *sets: ImageSet, classifier: Classifier | None, device: torch.device
    ) -> tuple[Tensor, tuple[str, ...]]:
        """All sets in one embedding: float64 ``(N, dimensions)``, one set after the other, and the notes."""
        check_sizes(*sets, feature_size=self.feature_size)
        used, file = find_extractor(self.extractor, self.otherwise, self.weights)
        extract = first_layer(used, file, classifier, device, self.feature_size)
        notes = [extractor_note(self.extractor, used, file)]
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
        chunks = features(Subset(everything, share(total, self.batch)))
        projected = torch.cat([torch.empty(0, pca.axes.shape[1]), *(pca(chunk).cpu() for chunk in chunks)])
        projected = torch.cat([processes.told(projected, process) for process in range(processes.count())])
        if projected.shape[1] < self.pca:
            notes.append(f"pca: the images vary in only {projected.shape[1]} of {self.pca} dimensions")
        perplexity = min(self.perplexity, (total - 1) / 3)
        if perplexity < self.perplexity:
            notes.append(f"perplexity: {perplexity:.1f} instead of {self.perplexity:g}, a third of {total} images")
        points = torch.empty(0, 0, dtype=torch.float64)
        if processes.first():
            coordinates = _tsne(projected.numpy(), perplexity, self.dimensions, self.method, seed % 2**32)
            points = torch.from_numpy(coordinates)
        return processes.told(points), tuple(notes)


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
