"""Weights from elsewhere: read without running anything, and checked before a network takes them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import File, restored
from dakit.optional import WeightsFile


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a ``.safetensors`` file, or from what ``torch.save`` wrote, as tensors on the CPU.

    Also one that lies below ``state_dict`` in a larger dictionary. Nothing but tensors is ever unpickled.

    Raises:
        DakitError: the file is missing, damaged or cut off, would run code, holds anything but named tensors,
            or has a value that is not finite.
    """
    state: Any
    expected = "expected a state dict of tensors, .safetensors or written by torch.save"
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Not torch's own text: it advises to allow what the file wants to do.
        why = "it holds Python objects, which could run code" if "GLOBAL" in str(error) else "it is damaged"
        raise DakitError(f"weights {path}: cannot be read as a state dict: {why}; {expected}") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise DakitError(f"weights {path}: cannot be read as a state dict: {why}; {expected}") from error
    except (RuntimeError, EOFError, AttributeError, ValueError, KeyError, SafetensorError) as error:
        raise DakitError(
            f"weights {path}: cannot be read as a state dict: it is damaged or cut off ({error}); {expected}"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DakitError(f"weights {path}: cannot be read as a state dict: it holds other things; {expected}")
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise DakitError(f"weights {path}: {len(broken)} of {len(state)} tensors hold NaN or infinity: {broken[0]}")
    return dict(state)


def named_file(file: File, network: str) -> WeightsFile:
    """What there is to say of a file that a recipe names by its path; it is the user's to bring.

    Args:
        file: as the recipe has it.
        network: that starts from it.
    """
    there = file.path.is_file()
    return WeightsFile(file.path.name, network, file.path, there, file.path.stat().st_size if there else None, "", "")


def _of_what(ours: Iterable[str], theirs: Iterable[str]) -> str:
    """Whose weights have none of the names that were expected."""
    if {name.removeprefix("network.") for name in theirs} & set(ours):
        return "these are weights that dakit trained; a stage starts from them with init: {run: DIR, row: NAME}"
    return "these are weights of another architecture"


def load_weights(
    network: nn.Module,
    path: Path,
    *,
    head: str | tuple[str, ...],
    arch: str,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load a state dict into a network; a head of another shape stays as it is.

    Nothing is done where the network is :func:`~dakit.interfaces.restored` and will be given all of its weights.

    Args:
        network: takes the weights.
        path: see :func:`read_weights`.
        head: the name of the last layer within the network; of several, each.
        arch: what the network is called, for messages.
        adapt: makes weights of another shape under the same names fit, such as position embeddings of another image
            size; asked only where beside the head some differ in shape and none in name.

    Raises:
        DakitError: the file cannot be read, or more than the head differs.
    """
    if restored():
        return
    heads = (head,) if isinstance(head, str) else head
    state = read_weights(path)
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}

    def shapes() -> tuple[dict[str, tuple[int, ...]], list[str], list[str]]:
        theirs = {name: tuple(value.shape) for name, value in state.items()}
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return theirs, differ, [name for name in differ if name.rpartition(".")[0] not in heads]

    theirs, differ, body = shapes()
    if body and adapt is not None and all(name in ours and name in theirs for name in body):
        state = adapt(state)
        theirs, differ, body = shapes()
    if body:
        listed = "".join(
            f"\n  {name}: {theirs.get(name, 'missing')}, expected {ours.get(name, 'nothing')}" for name in body[:5]
        )
        raise DakitError(
            f"weights {path} do not fit {arch}: {len(body)} entries beside the head differ{listed}"
            + ("" if set(ours) & set(theirs) else f"\n  no name is the same: {_of_what(ours, theirs)}")
        )
    network.load_state_dict({name: state[name] for name in ours if name not in differ}, strict=False)
