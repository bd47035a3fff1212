from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dakit.errors import DakitError
from dakit.interfaces import Engine
from dakit.training.checkpoint import checkpoints, load_state, save_state
from tiny import assert_same


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {
        "nested": {"a": {"b": [1, 2.5, None, True, "text", (3, (4,))]}},
        7: {"int key": -1, True: "bool key", None: 0},
        ("a", 1): "tuple key",
        "numbers": [math.inf, -math.inf, 0.1, 2**60],
        "tensors": [
            torch.tensor(3.5),
            torch.tensor([True, False]),
            torch.arange(3),
            torch.zeros(0, 2),
            torch.randn(2, 3).T,
            torch.randn(3, dtype=torch.float64),
            torch.randn(2).bfloat16(),
            torch.tensor([1, 255], dtype=torch.uint8),
            nn.Parameter(torch.ones(2)),
        ],
        "empty": [{}, [], ()],
    }
    save_state(tmp_path / "s.safetensors", state)
    back = load_state(tmp_path / "s.safetensors")
    state["tensors"][-1] = torch.ones(2)
    assert_same(back, state)
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_not_a_number_comes_back(tmp_path):
    save_state(tmp_path / "s", {"x": math.nan, "t": torch.tensor(math.nan)})
    back = load_state(tmp_path / "s")
    assert math.isnan(back["x"])
    assert torch.isnan(back["t"])


def test_shared_memory_is_written_twice(tmp_path):
    whole = torch.arange(4.0)
    save_state(tmp_path / "s", {"a": whole, "b": whole, "c": whole[1:3]})
    back = load_state(tmp_path / "s")
    assert back["a"].tolist() == back["b"].tolist() == [0, 1, 2, 3]
    assert back["c"].tolist() == [1, 2]


def test_what_cannot_be_held_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "s"
    save_state(path, {"a": 1})
    with pytest.raises(TypeError, match="a checkpoint cannot hold object"):
        save_state(path, {"a": object()})
    assert load_state(path) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "tensor", "header", "other"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "checkpoint.safetensors"
    save_state(path, {"weights": torch.arange(100.0), "done": 12345})
    content = path.read_bytes()
    if damage == "other":
        save_file({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes({
            "truncated": content[:-7],
            "empty": b"",
            "tensor": content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
            "header": content.replace(b"12345", b"12346"),
        }[damage])  # fmt: skip
    with pytest.raises(DakitError, match=r"checkpoint\.safetensors: is .*\(truncated or altered\)"):
        load_state(path)


def test_checkpoints_come_by_the_minute(tmp_path, monkeypatch):
    """Counted from the last one, whichever interval asked for it."""
    now, saved = [1000.0], []
    monkeypatch.setattr("dakit.training.checkpoint.time.monotonic", lambda: now[0])
    engine = Engine(device="cpu", checkpoint_minutes=2, checkpoint_steps=10)
    step_done = checkpoints(engine, 0, lambda done: saved.append((done, now[0])))
    for done, seconds in enumerate((119, 120, 121, 240, 242, 300), 1):
        now[0] = 1000.0 + seconds
        step_done(done)
    assert saved == [(3, 1121.0), (5, 1242.0)]
    step_done(14)
    step_done(15)  # the tenth since the last
    assert saved == [(3, 1121.0), (5, 1242.0), (15, 1300.0)]
