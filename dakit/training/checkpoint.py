"""What a killed stage goes on from: a file of tensors and plain values, when it is written, and that of a training."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dakit import processes
from dakit.errors import DakitError
from dakit.files import written
from dakit.interfaces import Engine
from dakit.training.loss_log import LossLog
from dakit.training.stopping import Stopped, asked_to_stop, stop_if_asked


class Stateful(Protocol):
    """Anything that a checkpoint must hold besides networks and optimisers, such as an image pool."""

    def state_dict(self) -> dict[str, Any]:
        """What to save: nested dicts, lists, tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take it back."""
        ...


class TrainingCheckpoint:
    """A training's ``checkpoint.safetensors``: of every process what is its own, of the first all else.

    Args:
        folder: that all processes see.
        identity: of the training; a checkpoint with another one is not taken up.
        parts: what has a state, by name.
        of_each_process: names of those parts that each process has for itself.
        log: of the losses; saved with the rest.

    Attributes:
        trained_by: by how many processes, and by how many before each resume with another number.
        removed: whether a checkpoint of another training was there.
    """

    def __init__(
        self, folder: Path, identity: str, parts: Mapping[str, Stateful], of_each_process: Collection[str], log: LossLog
    ) -> None:
        self.path = folder / "checkpoint.safetensors"
        self.identity = identity
        self.parts = parts
        self.of_each_process = of_each_process
        self.log = log
        self.trained_by = [processes.count()]
        self.removed = False

    def restore(self) -> int | None:
        """Give every part its state back.

        Returns:
            How many steps are done; None where there is nothing to go on from.
        """
        (there,) = processes.agree(self.path.is_file())
        if not there:
            return None
        saved = load_state(self.path)
        if saved.get("identity") != self.identity:  # dakit 0.2.0 kept none
            self.removed = True
            processes.wait()  # all have read it
            if processes.first():
                self.path.unlink()
            return None
        done: int = saved["done"]
        of_process = self._of_process(done)
        states = saved["parts"] | (load_state(of_process) if of_process.is_file() else {})
        for name, part in self.parts.items():
            part.load_state_dict(states[name])
            if isinstance(part, torch.optim.Optimizer):
                _as_laid_out(part)
        self.log.load_state_dict(saved)
        before = saved.get("processes", [1])  # dakit 0.1.0 knew of one
        self.trained_by = before if before[-1] == processes.count() else [*before, processes.count()]
        return done

    def save(self, done: int) -> None:
        """Write the state of every part after so many steps; the files of an earlier step go."""
        if not processes.first():
            save_state(self._of_process(done), {name: self.parts[name].state_dict() for name in self.of_each_process})
        processes.wait()  # the first one's file is written last, and says which of the others count
        if processes.first():
            states = {name: part.state_dict() for name, part in self.parts.items()}
            about = {"identity": self.identity, "done": done, "processes": self.trained_by}
            save_state(self.path, {"parts": states, **about, **self.log.state_dict()})
        processes.wait()
        for old in set(self.path.parent.glob(self._of_process("*").name)) - {self._of_process(done)}:
            old.unlink()  # the first has none

    def _of_process(self, done: int | str) -> Path:
        """Where a process that is not the first keeps what is its own, after so many steps."""
        return self.path.with_name(f"{self.path.stem}-{processes.rank()}-{done}.safetensors")


def _as_laid_out(optimiser: torch.optim.Optimizer) -> None:
    """Give an optimiser's moments the memory layout of their weights, which a checkpoint does not hold.

    Arithmetic on tensors of two layouts takes another path through torch, with another rounding.
    """
    for weight, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def checkpoints(
    engine: Engine, done: int, save: Callable[[int], None], *, together: bool = False
) -> Callable[[int], None]:
    """A function to be told after every step how many are done; it saves when the engine or a signal says so.

    Args:
        engine: holds the intervals.
        done: steps that the last checkpoint holds.
        save: write a checkpoint; it is told how many steps are done now.
        together: every process tells the same steps; what one must do, all do.
    """
    saved_at, saved_step = time.monotonic(), done

    def step_done(done: int) -> None:
        nonlocal saved_at, saved_step
        late = time.monotonic() - saved_at > engine.checkpoint_minutes * 60
        asked = asked_to_stop()  # once: a signal between two looks would stop without the checkpoint
        if together:
            asked, late = processes.agree(asked, late)
        if asked or late or done - saved_step >= engine.checkpoint_steps:
            save(done)
            saved_at, saved_step = time.monotonic(), done
        if asked:
            stop_if_asked()
            raise Stopped(signal.SIGTERM)  # another process was asked

    return step_done


def save_state(path: Path, state: Any) -> None:
    """Write nested dicts, lists, tensors and plain values as one safetensors file, by rename.

    Tensors are stored as such and everything else as JSON in the header, so nothing is ever unpickled.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": [[plain(k), plain(v)] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list" if isinstance(value, list) else "tuple": [plain(v) for v in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")

    header = json.dumps(plain(state))
    with written(path) as part:
        save_file(tensors, part, metadata={"state": header, "sha256": _content(header, tensors)})


def load_state(path: Path) -> Any:
    """Read what :func:`save_state` wrote.

    Raises:
        DakitError: the file is not what was written.
    """
    about: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    with suppress(SafetensorError), safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if not about or _content(about.get("state", ""), tensors) != about.get("sha256"):
        raise altered(path)

    def restore(value: Mapping[str, Any]) -> Any:
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {restore(k): restore(v) for k, v in content}
        if kind in ("list", "tuple"):
            return (list if kind == "list" else tuple)(restore(v) for v in content)
        return content

    return restore(json.loads(about["state"]))


def altered(path: Path) -> DakitError:
    """What to say of a file to go on from that is not what was written."""
    return DakitError(
        f"{path}: is not what was written (truncated or altered); --fresh and the stage's name begins it anew"
    )


def _content(header: str, tensors: Mapping[str, Tensor]) -> str:
    hasher = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        hasher.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()
