"""How selection grows with the pool: time, memory, and what each selector chooses, up to the paper's 148,720 images.

    python benchmarks/selection_growth.py --counts 1000 5000 20000 --save growth.json

Each selector runs in a process of its own on pictures drawn when they are read (no decoding, no memory),
with random weights in the shape of AlexNet's first layer: 193,600 numbers an image at 224 pixels.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from dakit.cli.common import table
from dakit.data.features import feature_chunks
from dakit.files import write_json
from dakit.interfaces import File, Sample
from dakit_builtins.selectors.feature_knn import FeatureKnn
from dakit_builtins.selectors.tsne_knn import TsneKnn

PAPER = 148_720
WAYS: dict[str, tuple[type, bool]] = {
    "feature_knn": (FeatureKnn, False),
    "feature_knn, hub-free": (FeatureKnn, True),
    "tsne_knn": (TsneKnn, False),
    "tsne_knn, hub-free": (TsneKnn, True),
}


class Drawn:
    """Smooth pictures about one of 200 themes; those of another ``domain`` have other colours.

    Args:
        count: images.
        size: pixels.
        domain: 0 for the pool, 1 for the anchors.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, count: int, size: int, domain: int) -> None:
        self.size, self.domain = size, domain
        self.labels = [-1] * count
        self.groups = [str(i) for i in range(count)]
        self.themes = torch.rand(200, 3, 7, 7, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> Sample:
        generator = torch.Generator().manual_seed(2 * index + self.domain)
        theme = self.themes[int(torch.randint(200, (), generator=generator))]
        small = 0.6 * theme + 0.4 * torch.rand(3, 7, 7, generator=generator)
        if self.domain:
            small = 0.8 * small.roll(1, 0) + 0.2
        big = torch.nn.functional.interpolate(255 * small[None], self.size, mode="bilinear")[0]
        return Sample(big.to(torch.uint8), -1, self.groups[index])


def run(way: str, count: int, anchors: int, size: int, weights: str) -> dict[str, Any]:
    """One selection: seconds, CPU seconds in all and by step, the process's peak in bytes, and the indices."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool, wanted = Drawn(count, size, 0), Drawn(anchors, size, 1)
    spent = {"extraction": 0.0, "PCA": 0.0, "t-SNE": 0.0}
    torch.manual_seed(0)

    def timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[step] += time.process_time() - start

        return call

    def chunks(*args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        left = feature_chunks(*args, **kwargs)
        yield from iter(timed("extraction", lambda: next(left, None)), None)

    factory, hub_free = WAYS[way]
    # where the pool has not twice the images that are needed, each may be used more than once
    params = {"max_reuse": math.ceil(2 * 8 * anchors / count)} if hub_free else {}
    selector = factory(neighbours=8, weights=File(Path(weights)), **params)
    own = sys.modules[factory.__module__]
    named = {"fit_pca": "PCA", "_tsne": "t-SNE"}
    steps = {name: timed(title, getattr(own, name)) for name, title in named.items() if hasattr(own, name)}
    steps["feature_chunks"] = chunks
    start, cpu = time.perf_counter(), time.process_time()
    with patch.multiple(own, **steps):
        chosen = selector(pool, wanted, classifier=None, device=device)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    spent["the rest"] = cpu - sum(spent.values())
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": seconds, "cpu": cpu, "steps": spent, "peak_bytes": peak, "indices": chosen.indices.tolist()}


def projected(counts: Sequence[int], values: Sequence[float], target: int = PAPER) -> float:
    """The line through the two largest counts, at the target.

    >>> projected([10, 20], [3.0, 5.0], 100)
    21.0
    """
    (n1, v1), (n2, v2) = sorted(zip(counts, values, strict=True))[-2:]
    return v2 + (v2 - v1) / (n2 - n1) * (target - n2)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a new process, so that one peak of memory does not hide another."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000, 20000], help="pool images")
    parser.add_argument("--anchors", type=int, default=700)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--selectors", nargs="+", default=list(WAYS), choices=WAYS, help="agreement is with the first")
    parser.add_argument("--save", type=Path, help="a JSON file")
    given = parser.parse_args(arguments)
    counts = sorted(given.counts)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "alexnet.pth"))
        filters = torch.randn(64, 3, 11, 11, generator=torch.Generator().manual_seed(0))
        torch.save({"features.0.weight": filters, "features.0.bias": torch.zeros(64)}, weights)
        for count in counts:
            exact: list[list[int]] = []
            for way in given.selectors:
                row = alone(run, way, count, given.anchors, given.size, weights)
                chosen = row.pop("indices")
                exact = exact or chosen
                same = sum(len({*line} & {*other}) for line, other in zip(chosen, exact, strict=True))
                row |= {"selector": way, "count": count, "load": os.getloadavg()[0]}
                row |= {"distinct": len({i for line in chosen for i in line}), "agreement": same / sum(map(len, exact))}
                rows.append(row)
                sys.stderr.write(f"{way}, {count} images: {row['seconds']:.0f} s\n")
    lines = [
        [row["selector"], row["count"], f"{row['seconds']:.1f}", f"{row['cpu']:.1f}",
         *(f"{value:.1f}" for value in row["steps"].values()), f"{row['peak_bytes'] / 2**20:.0f}", row["distinct"],
         f"{row['agreement']:.2f}", f"{row['load']:.1f}"]
        for row in rows
    ]  # fmt: skip
    ahead = {}
    for way in given.selectors if len(counts) > 1 else ():
        own = [row for row in rows if row["selector"] == way]
        ahead[way] = {key: projected(counts, [row[key] for row in own]) for key in ("seconds", "cpu", "peak_bytes")}
        line = ahead[way]
        lines.append([way, PAPER, f"{line['seconds']:.0f}", f"{line['cpu']:.0f}", *4 * [""],
                      f"{line['peak_bytes'] / 2**20:.0f}", "", "", "projected"])  # fmt: skip
    if given.save:
        about = {"anchors": given.anchors, "size": given.size, "threads": torch.get_num_threads()}
        write_json(given.save, about | {"rows": rows, "projected": ahead})
    heads = ["selector", "pool", "s", "CPU s", *rows[0]["steps"], "MiB", "distinct", "agreement", "load"]
    table(heads, lines)


if __name__ == "__main__":
    main()
