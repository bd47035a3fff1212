"""Content-keyed results on disk. A result is complete when its marker is there; the marker is written last.

Layout of one folder of results::

    store/<stage>-<key>/        complete: outputs, pictures, key.json, done.json (the marker)
    store/<stage>-<key>.part/   under way: checkpoints live here; running again goes on from them
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dakit.data.sets import Subset, TensorImages
from dakit.errors import DakitError
from dakit.files import write_json
from dakit.interfaces import ImageSet, Trained
from dakit.metrics import Evaluation
from dakit.registry import Registry

MARKER = "done.json"
_CHECKPOINT = "checkpoint"


def digest(value: Any) -> str:
    """SHA-256 of a plain value in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass
class Result:
    """A complete result; its outputs are read when they are asked for.

    Attributes:
        folder: where it is.
        inputs: the results and data it was made from, by input name (a selection is stored as indices).
    """

    folder: Path
    inputs: Mapping[str, Callable[[], Any]]
    registry: Registry

    @property
    def marker(self) -> dict[str, Any]:
        """What was recorded when it was completed: files with checksums, outputs, seconds, notes, warnings, facts.

        Raises:
            DakitError: it is damaged.
        """
        try:
            return dict(json.loads((self.folder / MARKER).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DakitError(f"{self.folder / MARKER}: cannot be read: {error}") from error

    def output(self, name: str) -> Any:
        """One output.

        Raises:
            DakitError: a file does not match its checksum.
        """
        marker = self.marker
        if name not in marker["outputs"]:
            raise DakitError(f"{self.folder}: has no output {name}; it has {', '.join(marker['outputs'])}")
        for file, checksum in marker["files"].items():
            if file.split(".")[0] == name and _checksum(self.folder / file) != checksum:
                raise DakitError(
                    f"{self.folder / file}: is not what was written (truncated or altered); "
                    f"run again with --fresh {self.folder.name.rsplit('-', 1)[0]} to make it anew"
                )
        return _load(self.folder, name, marker["outputs"][name], self.inputs, self.registry)


class Store:
    """The results in one folder."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self.root = root.resolve()  # a memory map knows its file by the absolute path
        self.registry = registry

    def folder(self, stage: str, key: str) -> Path:
        """Where the result of a stage with this key is, or will be."""
        return self.root / f"{stage}-{key[:16]}"

    def has(self, stage: str, key: str) -> bool:
        """Whether it is complete."""
        return (self.folder(stage, key) / MARKER).is_file()

    def discard(self, stage: str, key: str) -> None:
        """Forget a result, complete or under way."""
        for folder in (self.folder(stage, key), self.part(stage, key)):
            shutil.rmtree(folder, ignore_errors=True)

    def part(self, stage: str, key: str) -> Path:
        """Where a stage works before its result is complete."""
        return self.root / f"{stage}-{key[:16]}.part"

    def open(self, stage: str, key: str, inputs: Mapping[str, Callable[[], Any]]) -> Result:
        """A complete result."""
        return Result(self.folder(stage, key), inputs, self.registry)

    def make(
        self,
        stage: str,
        key: str,
        recipe: Mapping[str, Any],
        inputs: Mapping[str, Callable[[], Any]],
        work: Callable[[Path], tuple[Any, dict[str, Any]]],
    ) -> Result:
        """Run ``work`` in the stage's own folder and complete its result.

        ``recipe`` is what the key was made of and is kept beside the result; ``work`` is given the folder and
        returns (outputs, what else the marker keeps, such as notes and facts).
        """
        part = self.part(stage, key)
        part.mkdir(parents=True, exist_ok=True)
        write_json(part / "key.json", dict(recipe))
        started = time.monotonic()
        outputs, about = work(part)
        kinds = {name: _save(part, name, value, inputs) for name, value in outputs._asdict().items()}
        for leftover in part.glob(f"{_CHECKPOINT}*"):
            leftover.unlink()
        files = {
            str(path.relative_to(part)): _checksum(path)
            for path in sorted(part.rglob("*"))
            if path.is_file() and path.name != MARKER
        }
        write_json(
            part / MARKER,
            {"outputs": kinds, "files": files, **about, "key": key, "seconds": round(time.monotonic() - started, 3)},
        )
        folder = self.folder(stage, key)
        shutil.rmtree(folder, ignore_errors=True)  # what lost its marker
        os.replace(part, folder)
        return Result(folder, inputs, self.registry)

    def nearest(self, stage: str, recipe: Mapping[str, Any]) -> list[str]:
        """Why a stage has no result: what differs from the most similar one that is there.

        Returns:
            Dotted names with old and new value; empty when there is no result of this stage.
        """
        best: list[str] | None = None
        for folder in sorted(self.root.glob(f"{stage}-*")):
            if folder.name[len(stage) + 1 :].count("-") or not (folder / MARKER).is_file():
                continue
            old = json.loads((folder / "key.json").read_text(encoding="utf-8"))
            changes = _differences(old, json.loads(json.dumps(recipe)))
            if best is None or len(changes) < len(best):
                best = changes
        return best or []


def _differences(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in sorted({*old, *new})
            for line in _differences(old.get(name), new.get(name), f"{at}.{name}" if at else name)
        ]
    if old == new:
        return []
    if at.startswith("inputs."):
        return [f"{at.removeprefix('inputs.')} is another"]
    return [f"{at.removeprefix('params.')}: {old} -> {new}"]


def _checksum(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _save(folder: Path, name: str, value: Any, inputs: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Write one output; what it is goes into the marker."""
    if value is None:
        return {"type": "none"}
    if isinstance(value, Trained):
        state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in value.state.items()}
        save_file(state, folder / f"{name}.safetensors")
        spec = value.spec
        params = dict(spec.params)
        return {
            "type": "trained",
            "kind": spec.kind,
            "name": spec.name,
            "params": params,
            "classes": value.classes,
        }
    if isinstance(value, Evaluation):
        value.save(folder, name)
        return {"type": "evaluation"}
    if isinstance(value, Subset):
        origin = next((key for key, get in inputs.items() if _same(get, value.base)), None)
        if origin is not None:
            np.save(folder / f"{name}.npy", np.asarray(value.indices, dtype=np.int64))
            return {"type": "subset", "of": origin}
    if isinstance(value, ImageSet):
        images = value if isinstance(value, TensorImages) else _collect(value)
        if not (isinstance(images.images, np.memmap) and Path(str(images.images.filename)).parent == folder):
            np.save(folder / f"{name}.npy", np.asarray(images.images))
        about = {
            "labels": list(images.labels),
            "groups": list(images.groups),
            "classes": list(images.classes),
        }
        write_json(folder / f"{name}.json", about)
        return {"type": "images"}
    raise TypeError(f"a stage may not return {type(value).__name__} as {name}")


def _same(get: Callable[[], Any], images: ImageSet) -> bool:
    return get() is images


def _collect(images: ImageSet) -> TensorImages:
    stack = torch.stack([images[i].image for i in range(len(images))])
    return TensorImages(stack, images.labels, images.groups, images.classes)


def _load(
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    inputs: Mapping[str, Callable[[], Any]],
    registry: Registry,
) -> Any:
    if about["type"] == "none":
        return None
    if about["type"] == "trained":
        spec = registry.spec(about["kind"], about["name"], about["params"])
        return Trained(spec, load_file(folder / f"{name}.safetensors"), tuple(about["classes"]))
    if about["type"] == "evaluation":
        return Evaluation.load(folder, name)
    if about["type"] == "subset":
        return Subset(inputs[about["of"]](), np.load(folder / f"{name}.npy", allow_pickle=False).tolist())
    more = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return TensorImages(array, more["labels"], more["groups"], more["classes"])
