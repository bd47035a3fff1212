"""The one fit loop: steps, checkpoint, resume, log. It knows no loss.

Everything random in step n is drawn after seeding with (seed, n), and batch n is a function of (seed, n).
So a run that goes on from a checkpoint draws what an unbroken run would have drawn, without any saved
random state, and ends bit-identical on the same machine with the same number of processes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dakit import processes
from dakit.errors import DakitError
from dakit.files import write_json, written
from dakit.interfaces import Context, Engine, Trained
from dakit.parameters import verified
from dakit.training import identity
from dakit.training.stopping import Stopped, asked_to_stop, stepping, stop_if_asked
from dakit.training.surroundings import exact_fp32, fresh_accelerate

History = dict[str, list[float]]


class NonFiniteLoss(DakitError):
    """A loss or a gradient became NaN or infinite. The last checkpoint holds what went before, never this step."""


class Stateful(Protocol):
    """Anything that a checkpoint must hold besides networks and optimisers, such as an image pool."""

    def state_dict(self) -> dict[str, Any]:
        """What to save: nested dicts, lists, tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take it back."""
        ...


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any values, the same on every machine.

    >>> derive_seed(0, "adapt") == derive_seed(0, "adapt") != derive_seed(1, "adapt")
    True
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Trainer:
    """One stage's device, precision and fit loop, on accelerate.

    It seeds and sets flags of the whole process; :func:`dakit.training.surroundings.undisturbed` around all use of
    it, such as above a stage's ``run``, gives the caller's back.

    Args:
        ctx: the running stage.

    Attributes:
        device: where the networks are.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.accelerator = accelerator(ctx.engine)
        self.device: torch.device = self.accelerator.device
        self._total = torch.zeros((), device=self.device)  # of all losses since fit last looked at it

    def place(self, network: nn.Module, *, train: bool) -> nn.Module:
        """Move a network to the device, and give back what is to be called in training steps.

        One that is not trained is frozen and set to evaluation mode. Where several processes train it, what is
        given back averages the gradients of all of them after every backward pass; everything else, such as
        saving it or looking at it, is done with ``network`` itself.
        """
        engine = self.ctx.engine
        if engine.channels_last:
            network = network.to(memory_format=torch.channels_last)
        network = network.to(self.device)
        if not train:
            return network.eval().requires_grad_(False)
        network.train()
        if engine.compile:
            network.compile()
        return self.data_parallel(network)

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """A module on the device whose gradients are averaged over all processes; the module itself where it is one.

        Statistics of normalisation layers stay each process's own; those of the first are saved.
        """
        if processes.count() == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        # Not static_graph: with the discriminators frozen in every other pass it would silently stop averaging.
        # Buffers are left alone: writing the first one's into all would change what an earlier pass still needs.
        known = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch < 2.14
        with processes.meeting():
            return DistributedDataParallel(module, **{buffers: False})  # type: ignore[arg-type]

    def images(self, batch: Tensor) -> Tensor:
        """uint8 ``(B, 3, H, W)`` to float32 in [-1, 1] on the device: x / 127.5 - 1."""
        images = batch.to(self.device, non_blocking=True).float().div_(127.5).sub_(1)
        if self.ctx.engine.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def autocast(self) -> Any:
        """Forward passes in the engine's precision."""
        # Not accelerate's own: that asks what all accelerators of a process share, and there may be another since.
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        wanted = types.get(self.ctx.engine.precision)
        return nullcontext() if wanted is None else torch.autocast(self.device.type, dtype=wanted)

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Add the gradients of the sum of ``losses``; :meth:`fit` looks once a step whether all is finite."""
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self._total += total.detach()
        self.accelerator.backward(total / self.ctx.engine.accumulate)

    @stepping()
    def fit(
        self,
        *,
        title: str,
        steps: int,
        networks: Mapping[str, nn.Module],
        optimisers: Mapping[str, torch.optim.Optimizer],
        decay_from: float,
        step: Callable[[int], Mapping[str, Tensor]],
        others: Mapping[str, Stateful] | None = None,
        every: tuple[int, Callable[[int], None]] | None = None,
        epoch: tuple[int, int] = (1, 0),
    ) -> History:
        """Call ``step(n)`` for n = 0 ... and make every optimiser's step after ``accumulate`` of them.

        ``step`` computes losses, calls :meth:`backward` and returns the values to log. The learning rate
        is constant up to ``decay_from`` of the steps and then falls linearly to zero. Every process of a run calls
        this alike; values are averaged over them, and they stop and save at the same step.

        A checkpoint in the folder is gone on from where it is of the same training: where the context's ``identity``
        is the same, or without one the seed, the engine's precision, the shapes of the networks and all arguments
        here that are plain values, the optimisers' settings included. Another one is removed, and observers are told.

        Args:
            title: for progress and messages.
            steps: optimiser steps.
            networks: saved in checkpoints; themselves, not what :meth:`place` gave back.
            optimisers: stepped and saved.
            decay_from: in [0, 1]; 1 = constant.
            step: one batch; is told its number (``accumulate`` of them make an optimiser step).
            others: what else a checkpoint must hold, of each process.
            every: (k, f): call f(n) before step 0, after every k steps and at the end.
            epoch: (images, images per batch), for observers; as it is, none is told.

        Returns:
            Every logged value, averaged over about ``steps`` / 200 steps each, and "step".

        Raises:
            NonFiniteLoss: the last checkpoint stays as it is.
            Stopped: by a signal, after a checkpoint.
        """
        ctx, engine = self.ctx, self.ctx.engine

        def rate(n: int) -> float:
            start = decay_from * steps
            return 1.0 if n < start or steps == start else (steps - n) / (steps - start)

        rates = {name: [group["lr"] for group in o.param_groups] for name, o in optimisers.items()}
        own: dict[str, Any] = dict(others or {})
        stateful: dict[str, Any] = {**networks, **own}
        stateful |= {f"optimiser {name}": optimiser for name, optimiser in optimisers.items()}
        if self.accelerator.scaler is not None:
            stateful["scaler"] = self.accelerator.scaler
        of = ctx.identity or identity.digest([
            ctx.seed, identity.of_engine(engine), title, steps, decay_from, epoch, sorted(own),
            {name: _shapes(network) for name, network in networks.items()},
            {name: [_settings(group) for group in o.param_groups] for name, o in optimisers.items()},
        ])  # fmt: skip
        checkpoint = ctx.common_folder / "checkpoint.safetensors"
        history: History = {}
        log_every = max(1, steps // 200)
        window: dict[str, float] = {}  # sums since the last line of the history
        done = count = 0
        trained_by = [processes.count()]  # and by how many before each resume with another number
        (there,) = processes.agree(checkpoint.is_file())
        saved = load_state(checkpoint) if there else {}
        found = there and saved.get("identity") == of  # dakit 0.2.0 kept none
        if there and not found:
            processes.wait()  # all have read it
            if processes.first():
                checkpoint.unlink()
        if found:
            done, history, window, count = (saved[name] for name in ("done", "history", "window", "count"))
            mine = _of_process(checkpoint, done)
            parts = saved["parts"] | (load_state(mine) if mine.is_file() else {})
            for name, part in stateful.items():
                part.load_state_dict(parts[name])
            for optimiser in optimisers.values():
                _as_laid_out(optimiser)
            before = saved.get("processes", [1])  # dakit 0.1.0 knew of one
            trained_by = before if before[-1] == processes.count() else [*before, processes.count()]
        for observer in ctx.observers:
            observer.work_started(title, steps)
            if found:
                observer.message(f"going on from step {done} of {steps}")
            elif there:
                observer.message(
                    f"the checkpoint in {ctx.common_folder} was of another training (other parameters, inputs, seed or "
                    "precision) and is removed: this one begins anew"
                )
        if every is not None and not found:
            every[1](0)

        def save() -> None:
            if not processes.first():
                save_state(_of_process(checkpoint, done), {name: part.state_dict() for name, part in own.items()})
            processes.wait()  # the first one's file is written last, and says which of the others count
            if processes.first():
                parts = {name: part.state_dict() for name, part in stateful.items()}
                logged = {"history": history, "window": window, "count": count}
                about = {"identity": of, "done": done, "processes": trained_by}
                save_state(checkpoint, {"parts": parts, **about, **logged})
            processes.wait()
            for old in set(checkpoint.parent.glob(_of_process(checkpoint, "*").name)) - {_of_process(checkpoint, done)}:
                old.unlink()  # the first has none

        step_done = checkpoints(engine, done, save, together=True)
        while done < steps:
            terms: dict[str, Tensor] = {}
            try:
                for micro in range(engine.accumulate):
                    n = done * engine.accumulate + micro
                    seed = derive_seed(ctx.seed, n)
                    seed_everything(seed if processes.first() else derive_seed(seed, processes.rank()))
                    with processes.meeting():
                        losses = step(n)
                    for name, loss in losses.items():
                        terms[name] = terms.get(name, 0) + loss.detach().float() / engine.accumulate
                values = self._finite(terms, networks)
            except NonFiniteLoss as error:
                kept = f"the last checkpoint is {checkpoint}" if checkpoint.is_file() else "there is no checkpoint yet"
                raise NonFiniteLoss(
                    f"{title}: step {done + 1} of {steps}: {error}; {kept}. "
                    "A lower learning rate, precision: fp32 or smaller loss weights may help"
                ) from None
            for name, optimiser in optimisers.items():
                for group, lr in zip(optimiser.param_groups, rates[name], strict=True):
                    group["lr"] = lr * rate(done)
            self._update(optimisers.values())
            done += 1
            count += 1
            for name, value in values.items():
                window[name] = window.get(name, 0.0) + value
            if done % log_every == 0 or done == steps:
                history.setdefault("step", []).append(done)
                for name, total in window.items():
                    history.setdefault(name, []).append(total / count)
                window, count = {}, 0
            passed, passes = (n * engine.accumulate * epoch[1] // epoch[0] for n in (done - 1, done))
            for observer in ctx.observers:
                observer.step(done, values)
                if passes > passed:
                    observer.epoch(passes)
            if every is not None and (done % every[0] == 0 or done == steps):
                every[1](done)
            step_done(done)
        write_json(ctx.folder / "history.json", history)
        if trained_by != [1]:
            ctx.facts["processes"] = trained_by
        if len(trained_by) > 1:
            ctx.note(
                f"trained by {', then '.join(map(str, trained_by))} processes: the batches are the same, but not "
                "bit for bit what one number of processes would have given"
            )
        return history

    def _update(self, optimisers: Collection[torch.optim.Optimizer]) -> None:
        """Let every optimiser make its step, and forget the gradients.

        In fp16 all losses of a step were multiplied by one scale; it changes when all optimisers have divided by it.
        """
        scaler = self.accelerator.scaler
        for optimiser in optimisers:
            if scaler is None:
                optimiser.step()
            else:
                scaler.step(optimiser)
        if scaler is not None and optimisers:
            scaler.update()
        for optimiser in optimisers:
            optimiser.zero_grad()

    def _finite(self, terms: Mapping[str, Tensor], networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """The terms as numbers, averaged over all processes; a GPU is waited for this once in a step.

        Raises:
            NonFiniteLoss: what a backward pass was given is not finite in any process, or the gradient of a network.
        """
        norms: dict[str, Tensor] = {}
        for name, network in networks.items() if self.accelerator.scaler is None else ():  # which looks itself
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            if gradients:
                norms[name] = torch.nn.utils.get_total_norm(gradients)
        total, *numbers = torch.stack([self._total, *terms.values(), *norms.values()]).tolist()
        self._total.zero_()
        total, *means = processes.mean([total, *numbers[: len(terms)]])
        values = dict(zip(terms, means, strict=True))
        shown = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        if not np.isfinite(total):
            raise NonFiniteLoss(f"a loss is not finite ({shown})")
        for name, norm in zip(norms, numbers[len(terms) :], strict=True):
            if not np.isfinite(norm):
                raise NonFiniteLoss(f"the gradient of {name} is not finite, where {shown}")
        return values


def _shapes(network: nn.Module) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in network.state_dict().items()}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What of an optimiser's group is no weight."""
    return {name: value for name, value in group.items() if name != "params"}


def _of_process(checkpoint: Path, done: int | str) -> Path:
    """Where a process that is not the first keeps what is its own, after so many steps."""
    return checkpoint.with_name(f"{checkpoint.stem}-{processes.rank()}-{done}.safetensors")


def checkpoints(
    engine: Engine, done: int, save: Callable[[], None], *, together: bool = False
) -> Callable[[int], None]:
    """A function to be told after every step how many are done; it saves when the engine or a signal says so.

    Args:
        engine: holds the intervals.
        done: steps that the last checkpoint holds.
        save: write a checkpoint of what is done now.
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
            save()
            saved_at, saved_step = time.monotonic(), done
        if asked:
            stop_if_asked()
            raise Stopped(signal.SIGTERM)  # another process was asked

    return step_done


def _as_laid_out(optimiser: torch.optim.Optimizer) -> None:
    """Give an optimiser's moments the memory layout of their weights, which a checkpoint does not hold.

    Arithmetic on tensors of two layouts takes another path through torch, with another rounding.
    """
    for weight, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def accelerator(engine: Engine) -> Accelerator:
    """A fresh accelerator; two stages of one process may differ in precision.

    Where the same results can be had at the price of some speed, torch's flags are set for them: fp32 arithmetic is
    exact, and cuDNN adds in one order.

    Raises:
        DakitError: a value of the engine is none that a recipe may have; the device is not there, or not often
            enough for the processes of this machine.
    """
    verified(Engine, vars(engine))
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise DakitError('engine.device: "cuda" was asked for, but there is no CUDA device; expected auto or cpu')
    if engine.device == "mps" and not torch.backends.mps.is_available():
        raise DakitError('engine.device: "mps" was asked for, but there is no such device; expected auto or cpu')
    if engine.device == "mps" and processes.count() > 1:
        raise DakitError('engine.device: "mps" is one device; several processes need cuda or cpu')
    if engine.precision == "fp16" and (engine.device == "cpu" or not torch.cuda.is_available()):
        raise DakitError('engine.precision: "fp16" needs a GPU; on a CPU use fp32 or bf16')
    precision = "no" if engine.precision == "fp32" else engine.precision
    torch.backends.cudnn.deterministic = True  # its other kernels add in an order that differs from run to run
    cpu = engine.device == "cpu" or (processes.count() > 1 and not torch.cuda.is_available())
    processes.join(cuda=not cpu)
    fresh_accelerate()
    made = Accelerator(mixed_precision=precision, cpu=cpu)
    exact_fp32()  # last: accelerate may switch TF32 on
    return made


def trained(network: nn.Module, spec: Any, classes: Sequence[str] = ()) -> Trained[Any]:
    """A network's weights as the next stage will be given them, on the CPU in contiguous memory."""
    state = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in network.state_dict().items()}
    return Trained(spec, state, tuple(classes))


# ------------------------------------------------------------------------------------ checkpoints
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
    found = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        found.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
