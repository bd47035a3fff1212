"""Content-keyed results on disk. A result is complete when its marker is there; the marker is written last.

Layout of one folder of results::

    store/<stage>-<key>/        complete: outputs, pictures, key.json, done.json (the marker)
    store/<stage>-<key>.part/   under way: checkpoints live here; running again goes on from them
    store/lock                  held by the run that writes here, with its pid and host

It is one thing: a result is only as safe as the lock, the marker and the parts are together.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dakit import processes
from dakit.data.sets import Relabelled, Subset, TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.files import to_disk, write_json
from dakit.interfaces import ImageSet, Trained
from dakit.registry import Registry
from dakit.statistics.metrics import Evaluation

MARKER = "done.json"
CHECKPOINT = "checkpoint"


def digest(value: Any) -> str:
    """SHA-256 of a plain value in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass
class Result:
    """A complete result; its outputs are read when they are asked for, and kept: two readers get the same object.

    Attributes:
        folder: where it is.
        inputs: the results and data it was made from, by input name (a selection is stored as indices).
    """

    folder: Path
    inputs: Mapping[str, Callable[[], Any]]
    registry: Registry
    _outputs: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def marker(self) -> dict[str, Any]:
        """What was recorded at its end: files with checksums, outputs, the content of its inputs, what it was made
        with, notes, warnings, facts, time, memory.

        Raises:
            DakitError: it is damaged.
        """
        return read_marker(self.folder)

    def content(self, name: str = "") -> str:
        """A digest of what one output holds, or of all outputs: equal for equal ones, whenever they were made."""
        if not name:
            return digest({output: self.content(output) for output in self.marker["outputs"]})
        about = self.marker["outputs"][name]
        files = {file: checksum for file, checksum in self.marker["files"].items() if file.split(".")[0] == name}
        return digest([about, files, self.marker.get("inputs", {}) if about["type"] == "view" else None])

    def forget(self) -> None:
        """Let go of the outputs that were read; they can be read again."""
        self._outputs.clear()

    def output(self, name: str) -> Any:
        """One output.

        Raises:
            DakitError: a file does not match its checksum.
        """
        if name not in self._outputs:
            if name not in self.marker["outputs"]:
                raise DakitError(f"{self.folder}: has no output {name}; it has {', '.join(self.marker['outputs'])}")
            for file in self.marker["files"]:
                if file.split(".")[0] == name:
                    self.file(file)
            about = self.marker["outputs"][name]
            self._outputs[name] = _load(self.folder, name, about, self.inputs, self.registry)
        return self._outputs[name]

    def file(self, name: str) -> Path:
        """A file of it, which is what was written.

        Raises:
            DakitError: it is not.
        """
        path = self.folder / name
        if checksum_of(path) != self.marker["files"][name]:
            raise damaged(path)
        return path


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

    def marked(self, stage: str, key: str, contents: Mapping[str, str] | None = None) -> bool:
        """Whether all of it is there, made from inputs of these contents, but it was stopped between its marker and
        its place.
        """
        part = self.part(stage, key)
        return (part / MARKER).is_file() and _plain(part / MARKER).get("inputs") == dict(contents or {})

    def discard(self, stage: str, key: str) -> None:
        """Forget a result, complete or under way."""
        for folder in (self.folder(stage, key), self.part(stage, key)):
            if folder.exists():
                self._discard(folder)

    @staticmethod
    def _discard(folder: Path) -> None:
        (folder / MARKER).unlink(missing_ok=True)  # first, so that half of a result never counts as one
        shutil.rmtree(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep every other run out of the folder while this one is writing.

        The lock is the system's own on an open file and ends with the process, however that ends; so a lock
        file that is left over locks nothing.

        Raises:
            DakitError: another run is writing here, or the folder or disk cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = open(self.root / "lock", "a+", encoding="utf-8")
        except OSError as error:
            raise DakitError(f"--out {self.root.parent}: cannot be written: {error.strerror}") from error
        with lock:
            try:
                if processes.first():  # the others of the same run write their own files only
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise DakitError(
                    f"--out {self.root.parent}: another run is writing here ({lock.read().strip()}); "
                    "wait for it, stop it, or choose another folder"
                ) from None
            try:
                if processes.first():
                    lock.truncate(0)
                    lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
                    lock.flush()
                yield
            except (OSError, SafetensorError) as error:
                where = getattr(error, "filename", None) or self.root
                why = getattr(error, "strerror", None) or f"{error} (is the disk full?)"
                raise DakitError(
                    f"{where}: cannot be read or written: {why}. "
                    "What was complete is untouched; when the cause is gone, the same command goes on"
                ) from error

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
        contents: Mapping[str, str] | None = None,
    ) -> Result:
        """Run ``work`` in the stage's own folder and complete its result.

        ``recipe`` is what the key was made of and is kept beside the result; ``work`` is given the folder and
        returns (outputs, what else the marker keeps, such as notes and facts). ``contents`` are the content digests
        of the inputs: what was begun with others is begun anew.
        """
        part, folder = self.part(stage, key), self.folder(stage, key)
        begun = {**recipe, "contents": dict(contents or {})}
        if part.exists() and _plain(part / "key.json").get("contents", {}) != begun["contents"]:
            self._discard(part)
        part.mkdir(parents=True, exist_ok=True)
        if not self.marked(stage, key, contents):
            for leftover in part.glob(".*.part"):
                leftover.unlink()  # of a write that was cut off
            write_json(part / "key.json", begun)
            started = time.monotonic()
            _forget_peaks()
            outputs, about = work(part)
            kinds = {name: _save(part, name, value, inputs) for name, value in outputs._asdict().items()}
            files = {}
            for path in sorted(part.rglob("*")):
                if path.is_file() and not path.name.startswith(CHECKPOINT):
                    to_disk(path)
                    files[str(path.relative_to(part))] = checksum_of(path)
            seconds = round(time.monotonic() - started, 3)
            made_from = {"key": key, "inputs": begun["contents"]}
            marker = {"outputs": kinds, "files": files, **about, **made_from, "seconds": seconds, **_peaks()}
            plain = json.loads(json.dumps(marker))  # as it will be read
            write_json(part / MARKER, {**plain, "checksum": digest(plain)})
        for leftover in part.glob(f"{CHECKPOINT}*"):  # only now: until the marker was there, they were needed
            leftover.unlink()
        if folder.exists():
            self._discard(folder)  # what lost its marker, or was made from other inputs
        os.replace(part, folder)
        to_disk(self.root)
        return self.open(stage, key, inputs)

    def nearest(self, stage: str, recipe: Mapping[str, Any]) -> list[str]:
        """Why a stage has no result: what differs from the most similar one that is there.

        Returns:
            Dotted names with old and new value; empty when there is no result of this stage.
        """
        best: list[str] | None = None
        for folder in sorted(self.root.glob(f"{stage}-*")):
            if folder.name[len(stage) + 1 :].count("-") or not (folder / MARKER).is_file():
                continue
            old = _plain(folder / "key.json")
            if not old:
                continue  # damaged: it explains nothing
            old.pop("contents", None)
            changes = _differences(old, json.loads(json.dumps(recipe)))
            if best is None or len(changes) < len(best):
                best = changes
        return best or []


def _plain(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is not there or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_marker(folder: Path) -> dict[str, Any]:
    """The marker of a complete result.

    Raises:
        DakitError: it is damaged.
    """
    try:
        marker = dict(json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise damaged(folder / MARKER) from error
    checksum = marker.pop("checksum", None)
    if checksum is not None and checksum != digest(marker):  # dakit 0.1.0 wrote none
        raise damaged(folder / MARKER)
    return marker


def damaged(path: Path) -> DakitError:
    """What to say of a file that is not what was written, with the way out."""
    stage = path.parent.name.removesuffix(".part").rsplit("-", 1)[0]
    return DakitError(
        f"{path}: is not what was written (truncated or altered); run again with --fresh {stage} to make it anew"
    )


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


def _forget_peaks() -> None:
    """On Linux and on a GPU the peak can be forgotten, so that the next one is a stage's own."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peaks() -> dict[str, int]:
    """Bytes that this process had resident, and on its GPU, at most since they were last forgotten."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peaks["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    return peaks


def checksum_of(path: Path) -> str:
    """SHA-256 of a file; "missing" when it is not there."""
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
        return {
            "type": "trained",
            "kind": spec.kind,
            "name": spec.name,
            "params": spec.plain_params(),
            "classes": value.classes,
        }
    if isinstance(value, Evaluation):
        value.save(folder, name)
        return {"type": "evaluation"}
    if isinstance(value, ImageSet):
        arrays: dict[str, np.ndarray] = {}
        pixels = value.images if isinstance(value, TensorImages) else None
        there = isinstance(pixels, np.memmap) and Path(str(pixels.filename)).parent == folder
        view = _view(value, inputs, arrays) or (None if there else _relabelled(value, inputs, arrays))
        if view is not None:
            np.savez_compressed(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
            return {"type": "view", "view": view}
        if pixels is None:
            _collect(value, folder / f"{name}.npy")
        elif not there:
            np.save(folder / f"{name}.npy", np.asarray(pixels))
        about = {
            "labels": [int(label) for label in value.labels],
            "groups": list(value.groups),
            "classes": list(value.classes),
        }
        write_json(folder / f"{name}.json", about)
        return {"type": "images"}
    raise TypeError(f"a stage may not return {type(value).__name__} as {name}")


def _view(
    images: ImageSet, inputs: Mapping[str, Callable[[], Any]], arrays: dict[str, np.ndarray]
) -> dict[str, Any] | None:
    """How a set is seen through views of an input, outermost first; numbers go to ``arrays``. None = it is not."""
    origin = next((name for name, get in inputs.items() if get() is images), None)
    if origin is not None:
        return {"of": origin}
    if not isinstance(images, (Subset, Relabelled, Unlabelled)):
        return None
    kind = type(images).__name__
    base = _view(images.base, inputs, arrays)
    if base is None or isinstance(images, Unlabelled):
        return base and {"view": kind, "base": base}
    key = str(len(arrays))
    arrays[key] = np.asarray(images.indices if isinstance(images, Subset) else images.labels, dtype=np.int64)
    return {"view": kind, "base": base, "numbers": key, "classes": list(images.classes)}


def _relabelled(
    images: ImageSet, inputs: Mapping[str, Callable[[], Any]], arrays: dict[str, np.ndarray]
) -> dict[str, Any] | None:
    """The same where a set of any other kind has the pixels and groups of an input, image by image."""
    for name, get in inputs.items():
        base = get()
        if not isinstance(base, ImageSet) or len(base) != len(images) or list(base.groups) != list(images.groups):
            continue
        if all(torch.equal(base[i].image, images[i].image) for i in range(len(images))):
            arrays["0"] = np.asarray(images.labels, dtype=np.int64)
            return {"view": "Relabelled", "base": {"of": name}, "numbers": "0", "classes": list(images.classes)}
    return None


def _seen(view: Mapping[str, Any], inputs: Mapping[str, Callable[[], Any]], arrays: Mapping[str, Any]) -> ImageSet:
    """What :func:`_view` described."""
    if "of" in view:
        return cast(ImageSet, inputs[view["of"]]())
    base = _seen(view["base"], inputs, arrays)
    if view["view"] == "Unlabelled":
        return Unlabelled(base)
    numbers = arrays[view["numbers"]].tolist()
    return Subset(base, numbers) if view["view"] == "Subset" else Relabelled(base, numbers, view["classes"])


def _collect(images: ImageSet, path: Path) -> None:
    """Write the pixels of any set, one image in memory at a time."""
    shape = images[0].image.shape if len(images) else (3, 1, 1)
    array = np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(len(images), *shape))
    for i in range(len(images)):
        array[i] = images[i].image.numpy()
    array.flush()


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
    if about["type"] == "view":
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return _seen(about["view"], inputs, arrays)
    more = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return TensorImages(array, more["labels"], more["groups"], more["classes"])
