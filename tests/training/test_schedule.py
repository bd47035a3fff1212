from __future__ import annotations

import pytest
import torch

from dakit.training.schedule import LinearDecay


def optimiser(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=9.0)


def test_every_group_keeps_its_own_rate_and_falls_to_zero_after_the_last_step():
    first, second = optimiser(0.5, 2.0), optimiser(8.0)
    schedule = LinearDecay([first, second], steps=8, decay_from=0.5)
    seen = []
    for done in (0, 3, 4, 5, 6, 7, 8):
        schedule.set(done)
        seen.append([group["lr"] for o in (first, second) for group in o.param_groups])
    assert seen == [[0.5 * f, 2.0 * f, 8.0 * f] for f in (1, 1, 1, 0.75, 0.5, 0.25, 0)]


def test_a_constant_rate_stays():
    assert [LinearDecay([], steps=4, decay_from=1.0).factor(n) for n in range(5)] == [1.0] * 5


def test_an_optimiser_that_took_back_its_state_is_still_set():
    """Torch makes new groups when it loads a state."""
    here = optimiser(1.0)
    schedule = LinearDecay([here], steps=4, decay_from=0.0)
    here.load_state_dict(here.state_dict())
    schedule.set(3)
    assert here.param_groups[0]["lr"] == pytest.approx(0.25)
