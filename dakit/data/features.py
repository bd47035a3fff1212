"""Features of image sets, a chunk at a time: streaming, PCA from a sample, nearest images of each anchor.

Nothing here holds the features of a whole set: 150,000 images of 193,600 numbers each would be 116 GB. Of several
processes each looks at its own :func:`share` of a set; features stay where they were computed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from dakit import processes
from dakit.errors import DakitError
from dakit.interfaces import ImageSet


def share(count: int, batch: int) -> range:
    """Which images of a set of ``count`` fall to this process: whole chunks, so that they are those of one process.

    >>> share(10, batch=4)
    range(0, 10)
    """
    starts = processes.part(range(0, count, batch))
    return range(min(starts.start, count), min(starts.stop, count))


def feature_chunks(
    images: ImageSet, extract: Callable[[Tensor], Tensor], *, device: torch.device, batch: int = 64
) -> Iterator[Tensor]:
    """The features of a set in its order, ``(b, D)`` float32 with b <= ``batch``, on the device.

    Args:
        images: the set; every image of one size.
        extract: uint8 ``(b, 3, H, W)`` on the device -> anything ``(b, ...)``; called without gradients.
        device: where to compute.
        batch: images a chunk.
    """
    for start in range(0, len(images), batch):
        stop = min(start + batch, len(images))
        pixels = torch.stack([images[index].image for index in range(start, stop)]).to(device)
        with torch.no_grad():
            features = extract(pixels).flatten(1).float()
        yield features


def gather(chunks: Iterable[Tensor], count: int) -> Tensor:
    """Chunks ``(b, D)`` as one tensor ``(count, D)``, never holding them twice as ``torch.cat`` would."""
    rows: Tensor | None = None
    start = 0
    for chunk in chunks:
        if rows is None:
            rows = chunk.new_empty(count, chunk.shape[1])
        rows[start : start + len(chunk)] = chunk
        start += len(chunk)
    if rows is None or start != count:
        raise ValueError(f"expected {count} rows, got {start}")
    return rows


class PCA(NamedTuple):
    """A projection to the directions of the largest variance: ``(x - mean) @ axes``.

    Attributes:
        mean: ``(D,)``.
        axes: ``(D, p)``, orthonormal columns, largest variance first.
    """

    mean: Tensor
    axes: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Project ``(n, D)`` to ``(n, p)``."""
        return (features - self.mean) @ self.axes


def fit_pca(sample: Tensor, dimensions: int) -> PCA:
    r"""Exact PCA of ``s`` rows with far more columns than rows, from their Gram matrix.

    With :math:`X` the centred sample and :math:`X X^\top = U \Lambda U^\top`, the axes are
    :math:`V = X^\top U \Lambda^{-1/2}`: an (s, s) eigenproblem instead of a (D, D) one.

    Args:
        sample: ``(s, D)`` float32; it is centred in place, as a copy would double the memory.
        dimensions: at most so many axes. There are fewer where the sample varies in fewer directions.

    Raises:
        DakitError: all rows are equal.

    >>> line = torch.tensor([[0.0, 0, 0], [3, 4, 0], [6, 8, 0]])
    >>> pca = fit_pca(line.clone(), 2)
    >>> pca(line).abs().round().flatten().tolist()
    [5.0, 0.0, 5.0]
    """
    mean = sample.mean(0)
    sample -= mean
    values, vectors = torch.linalg.eigh((sample @ sample.T).cpu().double())  # Apple's GPUs have no float64
    values, vectors = values.flip(0)[:dimensions], vectors.flip(1)[:, :dimensions]
    real = values > 1e-6 * values[0].clamp(min=1e-30)  # below lies what float32 left of zero
    if not real.any():
        raise DakitError(f"all {len(sample)} images sampled for the PCA have the same features")
    scaled = (vectors[:, real] / values[real].sqrt()).to(sample.dtype).to(sample.device)
    return PCA(mean, sample.T @ scaled)


def nearest(
    pool: Iterable[Tensor],
    anchors: Tensor,
    keep: int,
    *,
    pool_groups: Tensor,
    anchor_groups: Tensor,
    part: range | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The ``keep`` nearest pool rows of each anchor by exact Euclidean distance, in one pass over the pool.

    :math:`\|a - b\|^2 = \|a\|^2 + \|b\|^2 - 2 a b^\top`, not below 0: one matrix product a chunk in the
    dtype of the features, the rest in float64 on the CPU. Memory beside anchors and chunk: 24 bytes x A x ``keep``,
    with several processes twice that: each tells the others the nearest of its part, and all merge them.

    Args:
        pool: chunks ``(b, D)`` in the order of the pool.
        anchors: ``(A, D)``, on the chunks' device.
        keep: how many.
        pool_groups: int64 ``(N,)``; an anchor's neighbours are of its own group.
        anchor_groups: int64 ``(A,)``.
        part: which images of the pool ``pool`` holds, where every process of a run calls this with its own
            :func:`share`; None = all, and no other process takes part.

    Returns:
        Indices int64 and distances float64, both ``(A, min(keep, N))``, nearest first, of equal ones the
        lower index first. Where a group has fewer images the row ends in -1 and inf.
    """
    keep = min(keep, len(pool_groups))
    best = torch.full((len(anchors), keep), torch.inf, dtype=torch.float64)
    indices = torch.full((len(anchors), keep), -1)
    waiting: list[Tensor] = []  # of the pool's images from ``first`` to ``stop``
    first = stop = 0 if part is None else part.start

    def merge() -> None:
        _merge(best, indices, waiting, torch.arange(first, stop).expand(len(anchors), -1))

    anchor_norms = _squared_norms(anchors)[:, None]
    for chunk in pool:
        other = anchor_groups[:, None] != pool_groups[stop : stop + len(chunk)]
        squared = anchor_norms + _squared_norms(chunk) - 2 * (anchors @ chunk.T).cpu().double()
        waiting.append(squared.clamp_(min=0).masked_fill_(other, torch.inf))
        stop += len(chunk)
        if stop - first >= keep:
            merge()
            waiting.clear()
            first = stop
    merge()
    if part is not None:
        local_nearest = best, indices
        best, indices = map(processes.told, local_nearest)
        for process in range(1, processes.count()):  # the first part first: of equal distances it has the lower index
            _merge(
                best, indices, [processes.told(local_nearest[0], process)], processes.told(local_nearest[1], process)
            )
    return indices.masked_fill_(best.isinf(), -1), best.sqrt_()


def _merge(best: Tensor, indices: Tensor, blocks: list[Tensor], index: Tensor) -> None:
    """Put into ``best`` the nearest of it and ``blocks`` (of images ``index``), of equal ones the former first."""
    for rows in torch.split(torch.arange(len(best)), 64):  # a sort of all at once would hold them four times
        distances = torch.cat([best[rows], *(block[rows] for block in blocks)], 1)
        order = distances.sort(dim=1, stable=True).indices[:, : best.shape[1]]
        best[rows] = distances.gather(1, order)
        indices[rows] = torch.cat([indices[rows], index[rows]], 1).gather(1, order)


def _squared_norms(rows: Tensor) -> Tensor:
    # A few rows at a time, for no second copy; into one tensor, as small ones that stay would keep the allocator from
    # using the large ones' memory again. In float32 torch adds pairwise: at D = 193,600 the relative error is 1.5e-7,
    # where that of the matrix product is 1.2e-6.
    norms = rows.new_empty(len(rows))
    for some, few in zip(torch.split(norms, 16), torch.split(rows, 16), strict=True):
        some.copy_(few.square().sum(1))
    return norms.cpu().double()


def nearest_with_reuse(
    pool: Iterable[Tensor],
    anchors: Tensor,
    neighbours: int,
    *,
    max_reuse: int | None,
    pool_groups: Tensor,
    anchor_groups: Tensor,
    part: range | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The t nearest pool rows of each anchor, no pool row given to more than ``max_reuse`` anchors.

    All pairs are taken greedily in the order of (distance, anchor, pool index). An anchor never looks further
    than its first ``t + (A - 1) t // max_reuse`` candidates, because the other anchors can use up only
    ``(A - 1) t // max_reuse`` images; so one pass over the pool is enough, and memory does not grow with it.

    Args:
        pool: see :func:`nearest`.
        anchors: see :func:`nearest`.
        neighbours: t.
        max_reuse: None = any number of anchors may share an image.
        pool_groups: see :func:`nearest`; A above is the size of the largest group.
        anchor_groups: see :func:`nearest`.
        part: see :func:`nearest`.

    Returns:
        Indices int64 and distances float64, both ``(A, t)``, nearest first; and the indices of the t nearest
        without ``max_reuse``.

    Raises:
        DakitError: an anchor found fewer than t images; with ``max_reuse`` > 1 this can happen where nearly
            every use of every image is needed, because an anchor takes an image only once.
    """
    keep = neighbours
    if max_reuse is not None:
        keep += (int(anchor_groups.bincount().max()) - 1) * neighbours // max_reuse
    indices, distances = nearest(pool, anchors, keep, pool_groups=pool_groups, anchor_groups=anchor_groups, part=part)
    plain = indices[:, :neighbours]
    if max_reuse is None:
        return indices, distances, plain
    chosen = _greedy(indices, distances, neighbours, max_reuse)
    for anchor, picks in enumerate(chosen):
        if len(picks) < neighbours:
            raise DakitError(
                f"max_reuse: {max_reuse} leaves anchor {anchor} with only {len(picks)} of {neighbours}, "
                "because every other image is used up; raise max_reuse or lower neighbours"
            )
    return (
        torch.tensor([[index for index, _ in picks] for picks in chosen], dtype=torch.int64),
        torch.tensor([[distance for _, distance in picks] for picks in chosen], dtype=torch.float64),
        plain,
    )


def _greedy(indices: Tensor, distances: Tensor, neighbours: int, max_reuse: int) -> list[list[tuple[int, float]]]:
    """For each anchor its (pool index, distance) pairs, from sorted candidate rows padded with -1."""
    chosen: list[list[tuple[int, float]]] = [[] for _ in indices]
    left: dict[int, int] = {}

    def candidates(anchor: int) -> Iterator[tuple[float, int, int]]:
        row = zip(distances[anchor].numpy(), repeat(anchor), indices[anchor].numpy(), strict=False)
        for distance, _, index in row:
            if index < 0 or len(chosen[anchor]) == neighbours:
                return
            if left.get(index, max_reuse):
                yield distance, anchor, index

    for distance, anchor, index in heapq.merge(*map(candidates, range(len(chosen)))):
        if len(chosen[anchor]) < neighbours and left.get(index, max_reuse):
            left[index] = left.get(index, max_reuse) - 1
            chosen[anchor].append((int(index), float(distance)))
    return chosen
