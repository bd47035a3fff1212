from __future__ import annotations

import pytest
import torch
from torch import nn

from dakit.errors import DakitError
from dakit.interfaces import Context, Engine
from dakit.training.device import accelerator
from dakit.training.trainer import Trainer

CPU = Engine(device="cpu")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(device="cuda"), 'engine.device: "cuda" was asked for'),
        (Engine(device="mps"), 'engine.device: "mps" was asked for'),
        (Engine(device="auto", precision="fp16"), 'engine.precision: "fp16" needs a GPU'),
        (Engine(device="cpu", precision="fp16"), 'engine.precision: "fp16" needs a GPU'),
    ],
)
def test_a_device_that_is_not_there(monkeypatch, engine, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DakitError, match=message):
        accelerator(engine)


def test_two_stages_of_one_process_may_differ_in_precision(tmp_path):
    net = nn.Linear(2, 2)
    dtypes = []
    for precision in ("bf16", "fp32", "bf16"):
        trainer = Trainer(Context(tmp_path, engine=Engine(device="cpu", precision=precision)))
        with trainer.autocast():
            dtypes.append(net(torch.randn(3, 2)).dtype)
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("device", "together", "gpu", "on_cpu"),
    [
        ("cpu", 1, False, True),
        ("cpu", 1, True, True),
        ("cpu", 2, True, True),
        ("auto", 1, False, False),  # accelerate takes what there is
        ("auto", 1, True, False),
        ("auto", 2, True, False),
        ("auto", 2, False, True),
        ("cuda", 1, True, False),
        ("cuda", 2, True, False),
    ],
)
@pytest.mark.parametrize(("precision", "named"), [("fp32", "no"), ("bf16", "bf16")])
def test_which_device_accelerate_is_told_to_take(monkeypatch, device, together, gpu, on_cpu, precision, named):
    told = {}
    monkeypatch.setattr("dakit.training.device.processes.count", lambda: together)
    monkeypatch.setattr("dakit.training.device.processes.join", lambda *, cuda: told.update(joined_for_gpu=cuda))
    monkeypatch.setattr("dakit.training.device.torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("dakit.training.device.Accelerator", lambda **given: told.update(given))
    accelerator(Engine(device=device, precision=precision))
    assert told == {"joined_for_gpu": not on_cpu, "cpu": on_cpu, "mixed_precision": named}
