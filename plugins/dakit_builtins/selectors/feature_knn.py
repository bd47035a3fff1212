"""The nearest images by first-layer features, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from dakit.data.features import feature_chunks, gather, nearest_with_reuse, share
from dakit.data.selection import check_request
from dakit.data.sets import Subset
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


@checked
@dataclass(kw_only=True)
class FeatureKnn:
    """The nearest pool images of each anchor by exact Euclidean distance between first-layer features.

    What :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn` approximates: nothing is reduced. The anchors' features
    are kept (A x D x 4 bytes; 700 at 193,600 numbers: 0.5 GB), the pool's pass by in chunks, one float32 matrix
    product each: squared distances are exact to about 1e-6 of the features' squared norm. Of several processes each
    looks at its own share of the pool.

    Args:
        neighbours: how many for each anchor.
        same_class: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
        max_reuse: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
        extractor: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
        otherwise: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
        weights: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
        feature_size: see :class:`~dakit_builtins.selectors.tsne_knn.TsneKnn`.
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
        """Choose ``(A, t)`` pool images; distances are Euclidean in feature space."""
        pool_groups, anchor_groups = check_request(
            pool, anchors, neighbours=self.neighbours, same_class=self.same_class, max_reuse=self.max_reuse
        )
        check_sizes(pool, anchors, feature_size=self.feature_size)
        used, file = find_extractor(self.extractor, self.otherwise, self.weights)
        extract = first_layer(used, file, classifier, device, self.feature_size)
        part = share(len(pool), self.batch)
        indices, distances, exact = nearest_with_reuse(
            feature_chunks(Subset(pool, part), extract, device=device, batch=self.batch),
            gather(feature_chunks(anchors, extract, device=device, batch=self.batch), len(anchors)),
            self.neighbours,
            max_reuse=self.max_reuse,
            pool_groups=pool_groups,
            anchor_groups=anchor_groups,
            part=part,
        )
        return Selection(indices, distances.float(), (extractor_note(self.extractor, used, file),), exact)
