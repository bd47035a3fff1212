"""Where a stage computes, and in which precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from dakit import processes
from dakit.errors import DakitError
from dakit.interfaces import Engine
from dakit.parameters import verified
from dakit.training.surroundings import exact_fp32, fresh_accelerate


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
    instance = Accelerator(mixed_precision=precision, cpu=cpu)
    exact_fp32()  # last: accelerate may switch TF32 on
    return instance
