"""The one fit loop: steps, checkpoint, resume, log. It knows no loss.

Everything random in step n is drawn after seeding with (seed, n), and batch n is a function of (seed, n).
So a run that goes on from a checkpoint draws what an unbroken run would have drawn, without any saved
random state, and ends bit-identical on the same machine with the same number of processes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dakit import processes
from dakit.errors import DakitError
from dakit.files import write_json
from dakit.interfaces import Context, Trained
from dakit.training import identity
from dakit.training.checkpoint import Stateful, TrainingCheckpoint, checkpoints
from dakit.training.device import accelerator
from dakit.training.ema import WeightAverage
from dakit.training.loss_log import History, LossLog
from dakit.training.schedule import LearningRates, Schedule
from dakit.training.seeds import derive_seed, seed_everything
from dakit.training.stopping import stepping


class NonFiniteLoss(DakitError):
    """A loss or a gradient became NaN or infinite. The last checkpoint holds what went before, never this step."""


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
        decay_from: float = 1.0,
        step: Callable[[int], Mapping[str, Tensor]],
        others: Mapping[str, Stateful] | None = None,
        every: tuple[int, Callable[[int], None]] | None = None,
        epoch: tuple[int, int] = (1, 0),
        schedule: Schedule | None = None,
        clip: float | None = None,
        average: WeightAverage | None = None,
    ) -> History:
        """Call ``step(n)`` for n = 0 ... and make every optimiser's step after ``accumulate`` of them.

        ``step`` computes losses, calls :meth:`backward` and returns the values to log. The learning rate
        is constant up to ``decay_from`` of the steps and then falls linearly to zero, or as ``schedule`` says. Every
        process of a run calls this alike; values are averaged over them, and they stop and save at the same step.

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
            schedule: in place of ``decay_from``.
            clip: the gradient of each optimiser's weights is scaled down to this Euclidean norm; None = never.
            average: of weights, told of every step and saved; at the end the networks still have their own weights.

        Returns:
            Every logged value, averaged over about ``steps`` / 200 steps each, and "step".

        Raises:
            NonFiniteLoss: the last checkpoint stays as it is.
            Stopped: by a signal, after a checkpoint.
        """
        ctx, engine = self.ctx, self.ctx.engine
        of_each_process = dict(others or {})
        parts: dict[str, Stateful] = {**networks, **of_each_process}
        parts |= {f"optimiser {name}": optimiser for name, optimiser in optimisers.items()}
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        if average is not None:
            parts["average"] = average
        schedule = schedule or Schedule(decay="linear", decay_from=decay_from)
        averaged = None if average is None else average.decay
        arguments = [title, steps, asdict(schedule), clip, averaged, epoch, sorted(of_each_process)]
        log, rates = LossLog(steps), LearningRates(optimisers.values(), steps, schedule)
        training = ctx.identity or _identity(ctx, arguments, networks, optimisers)
        checkpoint = TrainingCheckpoint(ctx.common_folder, training, parts, of_each_process, log)
        restored = checkpoint.restore()
        self._begin(title, steps, restored, checkpoint.removed)
        if every is not None and restored is None:
            every[1](0)
        done = restored or 0
        save_if_due = checkpoints(engine, done, checkpoint.save, together=True)
        while done < steps:
            try:
                values = self._finite(self._batches(done, step), networks)
            except NonFiniteLoss as error:
                there = checkpoint.path.is_file()
                last = f"the last checkpoint is {checkpoint.path}" if there else "there is no checkpoint yet"
                raise NonFiniteLoss(
                    f"{title}: step {done + 1} of {steps}: {error}; {last}. "
                    "A lower learning rate, precision: fp32 or smaller loss weights may help"
                ) from None
            rates.set(done)
            self._update(optimisers.values(), clip)
            done += 1
            if average is not None:
                average.update(done)
            log.add(done, values)
            self._tell(done, values, epoch)
            if every is not None and (done % every[0] == 0 or done == steps):
                every[1](done)
            save_if_due(done)
        write_json(ctx.folder / "history.json", log.history)
        self._note_processes(checkpoint.trained_by)
        return log.history

    def _begin(self, title: str, steps: int, restored: int | None, removed: bool) -> None:
        """Tell observers what begins, and from where."""
        for observer in self.ctx.observers:
            observer.work_started(title, steps)
            if restored is not None:
                observer.message(f"going on from step {restored} of {steps}")
            elif removed:
                observer.message(
                    f"the checkpoint in {self.ctx.common_folder} was of another training (other parameters, inputs, "
                    "seed or precision) and is removed: this one begins anew"
                )

    def _batches(self, done: int, step: Callable[[int], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Run ``step`` on the ``accumulate`` batches of one optimiser step, each seeded by its number.

        Returns:
            Their losses' means.
        """
        accumulate = self.ctx.engine.accumulate
        losses: dict[str, Tensor] = {}
        for number in range(done * accumulate, (done + 1) * accumulate):
            seed = derive_seed(self.ctx.seed, number)
            seed_everything(seed if processes.first() else derive_seed(seed, processes.rank()))
            with processes.meeting():
                of_batch = step(number)
            for name, loss in of_batch.items():
                losses[name] = losses.get(name, 0) + loss.detach().float() / accumulate
        return losses

    def _tell(self, done: int, values: Mapping[str, float], epoch: tuple[int, int]) -> None:
        """Tell observers of a step and, where one ended with it, of an epoch."""
        images, batch = epoch
        before, now = (n * self.ctx.engine.accumulate * batch // images for n in (done - 1, done))
        for observer in self.ctx.observers:
            observer.step(done, values)
            if now > before:
                observer.epoch(now)

    def _note_processes(self, trained_by: Sequence[int]) -> None:
        """Keep with the result by how many processes it was trained, where that was not one."""
        if list(trained_by) != [1]:
            self.ctx.facts["processes"] = list(trained_by)
        if len(trained_by) > 1:
            self.ctx.note(
                f"trained by {', then '.join(map(str, trained_by))} processes: the batches are the same, but not "
                "bit for bit what one number of processes would have given"
            )

    def _update(self, optimisers: Collection[torch.optim.Optimizer], clip: float | None) -> None:
        """Let every optimiser make its step, with its gradient at most ``clip`` long, and forget the gradients.

        In fp16 all losses of a step were multiplied by one scale; it changes when all optimisers have divided by it.
        """
        scaler = self.accelerator.scaler
        for optimiser in optimisers:
            if clip is not None:
                if scaler is not None:
                    scaler.unscale_(optimiser)  # the step itself then does not do so again
                torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], clip)
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


def _identity(
    ctx: Context,
    arguments: Sequence[Any],
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> str:
    """What tells one training from another where the context does not."""
    return identity.digest([
        ctx.seed, identity.of_engine(ctx.engine), *arguments,
        {name: _shapes(network) for name, network in networks.items()},
        {name: [_settings(group) for group in o.param_groups] for name, o in optimisers.items()},
    ])  # fmt: skip


def _shapes(network: nn.Module) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in network.state_dict().items()}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What of an optimiser's group is no weight."""
    return {name: value for name, value in group.items() if name != "params"}


def trained(network: nn.Module, spec: Any, classes: Sequence[str] = ()) -> Trained[Any]:
    """A network's weights as the next stage will be given them, on the CPU in contiguous memory."""
    state = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in network.state_dict().items()}
    return Trained(spec, state, tuple(classes))
