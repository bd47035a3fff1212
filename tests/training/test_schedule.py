from __future__ import annotations

import pytest
import torch

from dakit.training.schedule import LearningRates, Schedule


def optimiser(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=9.0)


def test_every_group_keeps_its_own_rate_and_falls_to_zero_after_the_last_step():
    first, second = optimiser(0.5, 2.0), optimiser(8.0)
    schedule = LearningRates([first, second], 8, Schedule(decay="linear", decay_from=0.5))
    seen = []
    for done in (0, 3, 4, 5, 6, 7, 8):
        schedule.set(done)
        seen.append([group["lr"] for o in (first, second) for group in o.param_groups])
    assert seen == [[0.5 * f, 2.0 * f, 8.0 * f] for f in (1, 1, 1, 0.75, 0.5, 0.25, 0)]


def test_a_constant_rate_stays():
    assert [Schedule(decay="linear", decay_from=1.0).factor(n, 4) for n in range(5)] == [1.0] * 5


def test_an_optimiser_that_took_back_its_state_is_still_set():
    """Torch makes new groups when it loads a state."""
    here = optimiser(1.0)
    schedule = LearningRates([here], 4, Schedule(decay="linear"))
    here.load_state_dict(here.state_dict())
    schedule.set(3)
    assert here.param_groups[0]["lr"] == pytest.approx(0.25)


# --------------------------------------------------------------------------- against timm's, and by hand
def test_warm_up_and_cosine_are_timms():
    from timm.scheduler.cosine_lr import CosineLRScheduler

    theirs = CosineLRScheduler(optimiser(2.0), 16, warmup_t=4, warmup_lr_init=2 / 5, warmup_prefix=True)
    ours = Schedule(warmup=0.2, decay="cosine")
    assert [2 * ours.factor(n, 20) for n in range(20)] == pytest.approx([theirs._get_lr(n)[0] for n in range(20)])


def test_cosine_without_warm_up_is_torchs():
    here = optimiser(1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(here, 10)
    for n in range(10):
        assert Schedule().factor(n, 10) == pytest.approx(theirs.get_last_lr()[0])
        here.step()
        theirs.step()


def test_inverse_is_that_of_ganin_and_others():
    """mu_p = mu_0 / (1 + alpha p)^beta with alpha = 10 and beta = 0.75, p from 0 to 1."""
    ours = [Schedule(decay="inverse").factor(n, 8) for n in (0, 2, 4, 8)]
    assert ours == pytest.approx([1, 1 / 3.5**0.75, 1 / 6**0.75, 1 / 11**0.75])


def test_it_rises_stays_and_falls():
    ours = Schedule(warmup=0.3, decay="linear", decay_from=0.5)
    assert [ours.factor(n, 10) for n in range(10)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_where_nothing_falls_it_stays():
    assert [Schedule(warmup=0.5, decay="none").factor(n, 4) for n in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_one_step_is_made_at_the_full_rate():
    assert [Schedule(warmup=0.4, decay=name).factor(0, 1) for name in ("none", "linear", "cosine")] == [1, 1, 1]
