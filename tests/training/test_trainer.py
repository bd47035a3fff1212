from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from dakit.interfaces import Context, Engine, Observer
from dakit.training.checkpoint import load_state
from dakit.training.ema import WeightAverage
from dakit.training.schedule import Schedule
from dakit.training.seeds import derive_seed, seed_everything
from dakit.training.trainer import NonFiniteLoss, Trainer, trained
from tiny import assert_same

CPU = Engine(device="cpu")


class Stopped(Exception):
    """Stands for a killed process."""


class Remembers:
    """Something stateful that is neither a network nor an optimiser, as an image pool."""

    def __init__(self):
        self.seen = []

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


def train(
    folder, *, steps=12, engine=CPU, stop_at=None, optimiser="adam", decay_from=0.5, poison=None, seed=7, modern=False
):
    """A regression with dropout and two optimisers; everything random is drawn inside ``step``."""
    seed_everything(0)
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    head = nn.Linear(1, 1)
    makers = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.5, 0.999)),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, amsgrad=True),
    }
    ctx = Context(folder, seed=seed, engine=engine)
    trainer = Trainer(ctx)
    networks = {name: trainer.place(net, train=True) for name, net in {"body": body, "head": head}.items()}
    optimisers = {"body": makers[optimiser](body.parameters()), "head": makers["sgd"](head.parameters())}
    memory = Remembers()
    looks = []
    average = WeightAverage(networks, 0.9) if modern else None
    more = {"schedule": Schedule(warmup=0.3), "clip": 0.5, "average": average} if modern else {}

    def step(n):
        if n == stop_at:
            raise Stopped
        x = torch.randn(6, 4)
        loss = (head(body(x)) - x.sum(1, keepdim=True)).square().mean()
        if n == poison:
            loss = loss * math.nan
        memory.seen.append(n)
        trainer.backward({"square": loss})
        return {"square": loss, "mean": x.mean()}

    history = trainer.fit(
        title="fitting",
        steps=steps,
        networks=networks,
        optimisers=optimisers,
        decay_from=decay_from,
        step=step,
        others={"memory": memory},
        every=(5, looks.append),
        **more,
    )
    states = {name: net.state_dict() for name, net in networks.items()}
    states |= {"average": average.weights} if average is not None else {}
    moments = {name: o.state_dict() for name, o in optimisers.items()}
    return states, moments, history, memory.seen, looks, ctx


# --------------------------------------------------------------------------------------------- resume
@pytest.mark.parametrize(("optimiser", "modern"), [("adam", False), ("sgd", False), ("adamw", False), ("adamw", True)])
def test_a_run_killed_at_any_step_ends_bit_identical(tmp_path, optimiser, modern):
    """Also with a schedule, with clipped gradients and an average of weights."""
    engine = Engine(device="cpu", checkpoint_steps=3)
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", engine=engine, optimiser=optimiser, modern=modern)
    for killed in range(1, 12):
        folder = tmp_path / f"killed {killed}"
        folder.mkdir()
        with pytest.raises(Stopped):
            train(folder, engine=engine, optimiser=optimiser, stop_at=killed, modern=modern)
        assert (folder / "checkpoint.safetensors").is_file() == (killed >= 3)
        again = train(folder, engine=engine, optimiser=optimiser, modern=modern)
        assert_same(again[:4], whole[:4])
        assert again[5].notes == []  # what is kept with a result does not tell how often it was stopped


def test_a_run_killed_at_every_checkpoint_ends_bit_identical(tmp_path):
    engine = Engine(device="cpu", checkpoint_steps=2)
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", engine=engine)
    (tmp_path / "killed").mkdir()
    for killed in (2, 4, 6, 8, 10):
        with pytest.raises(Stopped):
            train(tmp_path / "killed", engine=engine, stop_at=killed)
    again = train(tmp_path / "killed", engine=engine)
    assert_same(again[:4], whole[:4])


def test_accumulated_batches_are_counted_through_a_resume(tmp_path):
    engine = Engine(device="cpu", checkpoint_steps=2, accumulate=3)
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", steps=4, engine=engine)
    assert whole[3] == list(range(12))
    (tmp_path / "killed").mkdir()
    with pytest.raises(Stopped):
        train(tmp_path / "killed", steps=4, engine=engine, stop_at=7)
    again = train(tmp_path / "killed", steps=4, engine=engine)
    assert_same(again[:4], whole[:4])


def test_a_resumed_history_is_the_unbroken_one_where_steps_are_averaged(tmp_path):
    # With 400 steps one value stands for two of them; a checkpoint after 49 or 98 lies before or between lines.
    engine = Engine(device="cpu", checkpoint_steps=49)
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", steps=400, engine=engine)
    assert whole[2]["step"] == list(range(2, 401, 2))
    (tmp_path / "killed").mkdir()
    for stop_at, kept in ((60, 49), (120, 98)):
        with pytest.raises(Stopped):
            train(tmp_path / "killed", steps=400, engine=engine, stop_at=stop_at)
        assert load_state(tmp_path / "killed" / "checkpoint.safetensors")["done"] == kept
    again = train(tmp_path / "killed", steps=400, engine=engine)
    assert_same(again[:4], whole[:4])


def test_checkpoints_come_by_the_clock_too(tmp_path):
    engine = Engine(device="cpu", checkpoint_steps=1000, checkpoint_minutes=1e-9)
    with pytest.raises(Stopped):
        train(tmp_path, engine=engine, stop_at=7)
    assert load_state(tmp_path / "checkpoint.safetensors")["done"] == 7


def test_moments_come_back_in_the_layout_of_their_weights(tmp_path):
    """Saved tensors are contiguous; arithmetic on two layouts could round in another way."""
    layouts = []

    def fit(steps):
        trainer = Trainer(Context(tmp_path, engine=Engine(device="cpu", channels_last=True, checkpoint_steps=2)))
        net = trainer.place(nn.Conv2d(3, 4, 3), train=True)
        adam = torch.optim.Adam(net.parameters())

        def step(n):
            if n == steps:
                raise Stopped
            loss = net(trainer.images(torch.full((1, 3, 5, 5), 9, dtype=torch.uint8))).square().mean()
            trainer.backward({"loss": loss})
            layouts.append([value.stride() for value in adam.state[net.weight].values() if value.dim()])
            return {"loss": loss}

        trainer.fit(title="t", steps=5, networks={"n": net}, optimisers={"o": adam}, decay_from=1, step=step)

    with pytest.raises(Stopped):
        fit(steps=4)
    fit(steps=None)
    assert layouts[0] == []
    assert len(layouts) == 5
    assert layouts[1] == layouts[4] == [(27, 1, 9, 3)] * 2


def test_two_seeds_differ_and_one_does_not(tmp_path):
    runs = []
    for number, seed in enumerate((7, 7, 8)):
        (tmp_path / str(number)).mkdir()
        runs.append(train(tmp_path / str(number), seed=seed)[:4])
    assert_same(runs[0], runs[1])
    assert not torch.equal(runs[0][0]["head"]["weight"], runs[2][0]["head"]["weight"])


def test_pictures_are_asked_for_before_regularly_and_at_the_end(tmp_path):
    assert train(tmp_path)[4] == [0, 5, 10, 12]


def settings(folder, *, title="fitting", decay_from=0.5, lr=0.1, width=2, seed=7, precision="fp32", epoch=(1, 0)):
    """A stage that does not say what it is made of: how many steps it makes."""
    ctx = Context(folder, seed=seed, engine=Engine(device="cpu", checkpoint_steps=2, precision=precision))
    trainer, steps = Trainer(ctx), []
    net = nn.Linear(width, 1)

    def step(n):
        steps.append(n)
        trainer.backward({"loss": net(torch.ones(1, width)).sum()})
        return {}

    optimiser = torch.optim.SGD(net.parameters(), lr=lr)
    networks, optimisers = {"net": net}, {"o": optimiser}
    trainer.fit(
        title=title, steps=5, networks=networks, optimisers=optimisers, decay_from=decay_from, step=step, epoch=epoch
    )
    return len(steps)


@pytest.mark.parametrize(
    "other",
    [
        {"title": "fitting on 3 images"}, {"decay_from": 0.4}, {"lr": 0.2}, {"width": 3}, {"seed": 8},
        {"precision": "bf16"}, {"epoch": (9, 2)},
    ],
)  # fmt: skip
def test_a_stage_of_which_nothing_is_known_goes_on_from_a_like_training_alone(tmp_path, other):
    assert settings(tmp_path) == 5
    assert settings(tmp_path) == 1  # from the checkpoint of the fourth step
    assert settings(tmp_path, **other) == 5
    assert settings(tmp_path) == 5


# ------------------------------------------------------------------------------------------ the loop
def rates(tmp_path, steps, decay_from):
    """The learning rate of each step, read off a weight with gradient 1 under plain SGD."""
    trainer = Trainer(Context(tmp_path, engine=CPU))
    weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    positions = [0.0]

    def step(n):
        trainer.backward({"slope": weight * 1.0})
        return {}

    optimiser = torch.optim.SGD([weight], lr=0.1)
    trainer.fit(
        title="t",
        steps=steps,
        networks={},
        optimisers={"o": optimiser},
        decay_from=decay_from,
        step=step,
        every=(1, lambda n: positions.append(float(weight.detach()))),
    )
    return [round(a - b, 9) for a, b in pairwise(positions[1:])]


@pytest.mark.parametrize(
    ("steps", "decay_from", "expected"),
    [
        (4, 1.0, [0.1, 0.1, 0.1, 0.1]),
        (4, 0.0, [0.1, 0.075, 0.05, 0.025]),
        (4, 0.5, [0.1, 0.1, 0.1, 0.05]),
        (8, 0.5, [0.1, 0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025]),
        (5, 0.6, [0.1, 0.1, 0.1, 0.1, 0.05]),
    ],
)
def test_the_learning_rate_falls_linearly_to_zero(tmp_path, steps, decay_from, expected):
    assert rates(tmp_path, steps, decay_from) == expected


def test_a_schedule_stands_in_place_of_decay_from(tmp_path):
    trainer, weight, positions = Trainer(Context(tmp_path, engine=CPU)), nn.Parameter(torch.zeros(())), [0.0]

    def step(n):
        trainer.backward({"slope": weight * 1.0})
        return {}

    optimisers = {"o": torch.optim.SGD([weight], lr=1.0)}
    schedule = Schedule(warmup=0.25, decay="linear")
    every = (1, lambda n: positions.append(float(weight.detach())))
    trainer.fit(title="t", steps=4, networks={}, optimisers=optimisers, step=step, every=every, schedule=schedule)
    assert [a - b for a, b in pairwise(positions[1:])] == pytest.approx([1 / 2, 1, 2 / 3, 1 / 3])


@pytest.mark.parametrize("scaled", [False, True])
def test_a_gradient_is_clipped_over_all_weights_of_an_optimiser(tmp_path, scaled):
    """(3, 4) is 5 long and comes to 2; that of the other optimiser, 1 long, stays. In fp16 they are no others."""
    trainer = Trainer(Context(tmp_path, engine=CPU))
    if scaled:
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    a, b, c = (nn.Parameter(torch.zeros(())) for _ in range(3))

    def step(n):
        trainer.backward({"loss": 3 * a + 4 * b + c})
        return {}

    optimisers = {"ab": torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0), "c": torch.optim.SGD([c], lr=1.0)}
    trainer.fit(title="t", steps=1, networks={}, optimisers=optimisers, step=step, clip=2.0)
    assert [a.item(), b.item(), c.item()] == pytest.approx([-1.2, -1.6, -1.0], rel=1e-5)


def test_the_average_takes_in_every_step_and_the_networks_keep_their_own_weights(tmp_path):
    """The weight is -n after step n; d is 0, then 1 - 2^(-2/3), then 0.4."""
    trainer, net = Trainer(Context(tmp_path, engine=CPU)), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = WeightAverage({"net": net}, 0.4)

    def step(n):
        trainer.backward({"slope": net.weight.sum()})
        return {}

    optimisers = {"o": torch.optim.SGD(net.parameters(), lr=1.0)}
    trainer.fit(title="t", steps=3, networks={"net": net}, optimisers=optimisers, step=step, average=average)
    expected = -1.0
    for d, weight in ((1 - 2 ** (-2 / 3), -2), (0.4, -3)):
        expected = d * expected + (1 - d) * weight
    assert average.weights["net"]["weight"].item() == pytest.approx(expected)
    assert net.weight.item() == -3


def test_observers_are_told_of_steps_and_epochs(tmp_path):
    class Watch(Observer):
        heard: ClassVar[list[tuple[str, int]]] = []

        def step(self, done, losses):
            self.heard.append(("step", done))

        def epoch(self, done):
            self.heard.append(("epoch", done))

    trainer = Trainer(Context(tmp_path, engine=Engine(device="cpu", accumulate=2), observers=(Watch(),)))
    weight = nn.Parameter(torch.zeros(()))

    def step(n):
        trainer.backward({"loss": weight * 1.0})
        return {"loss": weight}

    optimisers = {"o": torch.optim.SGD([weight], lr=0.1)}
    # Two batches of 3 a step: 6, 12, 18, 24 of 10 images.
    trainer.fit(title="t", steps=4, networks={}, optimisers=optimisers, decay_from=1, step=step, epoch=(10, 3))
    assert Watch.heard == [("step", 1), ("step", 2), ("epoch", 1), ("step", 3), ("step", 4), ("epoch", 2)]


def test_every_step_is_seeded_by_its_number(tmp_path):
    drawn = {}
    for number, first in enumerate((False, True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        trainer = Trainer(Context(folder, seed=5, engine=CPU))
        weight = nn.Parameter(torch.zeros(()))

        def step(n, first=first, weight=weight, trainer=trainer):
            if first:
                torch.rand(n + 1)  # another appetite for random numbers in the steps before must not matter
                seed_everything(derive_seed(5, n))
            drawn.setdefault(n, []).append(float(torch.rand(())))
            trainer.backward({"loss": weight * 1.0})
            return {}

        trainer.fit(
            title="t",
            steps=3,
            networks={},
            optimisers={"o": torch.optim.SGD([weight], lr=0.1)},
            decay_from=1,
            step=step,
        )
    for n, (one, two) in drawn.items():
        seed_everything(derive_seed(5, n))
        assert one == two == float(torch.rand(()))
    assert len({one for one, _ in drawn.values()}) == 3


def test_accumulating_two_batches_of_four_is_one_of_eight(tmp_path):
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    weights = []
    for accumulate in (1, 2):
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        trainer = Trainer(Context(folder, engine=Engine(device="cpu", accumulate=accumulate)))
        torch.manual_seed(1)
        net = nn.Linear(3, 1)
        size = 8 // accumulate

        def step(n, net=net, trainer=trainer, size=size):
            part = slice(n * size % 8, n * size % 8 + size)
            loss = (net(x[part]) - y[part]).square().mean()
            trainer.backward({"square": loss})
            return {"square": loss}

        history = trainer.fit(
            title="t",
            steps=5,
            networks={"n": net},
            optimisers={"o": torch.optim.SGD(net.parameters(), lr=0.1)},  # Adam would not see a factor
            decay_from=1,
            step=step,
        )
        weights.append((net.weight.detach(), net.bias.detach(), torch.tensor(history["square"])))
    for one, two in zip(*weights, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(
    ("event", "scale"), [("nothing", 1024.0), ("the other overflows", 512.0), ("the scale grows", 2048.0)]
)
def test_in_fp16_both_optimisers_divide_by_the_scale_that_was_multiplied_by(tmp_path, event, scale):
    """The critic's gradient is 3 whatever happens; with torch's scaler of the CPU."""
    trainer = Trainer(Context(tmp_path, engine=CPU))
    growing = 1 if event == "the scale grows" else 2000
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=growing)
    generator, critic = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    seen = []

    def step(n):
        seen.append((critic.item(), trainer.accelerator.scaler.get_scale()))
        slope = generator.sqrt() if event == "the other overflows" else generator * 2  # d sqrt(x) / dx at 0
        trainer.backward({"generator": slope})
        trainer.backward({"critic": critic * 3})
        return {}

    optimisers = {"generators": torch.optim.SGD([generator], lr=1.0), "critics": torch.optim.SGD([critic], lr=1.0)}
    trainer.fit(title="t", steps=2, networks={}, optimisers=optimisers, decay_from=1, step=step)
    assert seen == [(0.0, 1024.0), (-3.0, scale)]
    assert critic.item() == -6.0
    assert generator.item() == (0.0 if event == "the other overflows" else -4.0)  # the step that overflows is left out
    assert generator.grad is critic.grad is None


def test_losses_are_added(tmp_path):
    trainer = Trainer(Context(tmp_path, engine=CPU))
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    trainer.backward({"a": weight[0] * 3, "b": weight[1].square(), "c": weight.sum()})
    assert weight.grad.tolist() == [4.0, 5.0]


# ------------------------------------------------------------------------------------ not a number
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path, accumulate):
    """And nothing else that its step touched (running statistics, the memory) gets into the kept checkpoint."""
    engine = Engine(device="cpu", accumulate=accumulate, checkpoint_steps=4)
    (tmp_path / "good").mkdir()
    good = train(tmp_path / "good", engine=engine)
    folder = tmp_path / "bad"
    folder.mkdir()
    with pytest.raises(NonFiniteLoss) as caught:
        train(folder, engine=engine, poison=5 * accumulate)
    message = str(caught.value)
    assert "fitting: step 6 of 12: a loss is not finite (square = nan, mean = " in message
    assert f"the last checkpoint is {folder / 'checkpoint.safetensors'}" in message
    assert load_state(folder / "checkpoint.safetensors")["done"] == 4
    assert_same(train(folder, engine=engine)[:4], good[:4])


def test_a_first_loss_that_is_not_finite_has_no_checkpoint_to_name(tmp_path):
    with pytest.raises(
        NonFiniteLoss,
        match=r"step 1 of 12: a loss is not finite \(square = nan, mean = \S+\); there is no checkpoint yet",
    ):
        train(tmp_path, poison=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_told_with_every_term(tmp_path, value):
    trainer = Trainer(Context(tmp_path, engine=CPU))
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)

    def step(n):
        losses = {"cycle": network.weight.sum() * 0.25, "adversarial": network.weight.sum() * value}
        trainer.backward(losses)
        return losses

    with pytest.raises(NonFiniteLoss) as caught:
        trainer.fit(title="x", steps=3, networks={"net": network}, optimisers={}, decay_from=1.0, step=step)
    assert f": a loss is not finite (cycle = 0.25, adversarial = {value:g}); there is" in str(caught.value)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    # The loss is finite, its derivative is not: d sqrt(x) / dx at 0.
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    trainer = Trainer(Context(tmp_path, engine=CPU))

    def step(n):
        loss = network(torch.ones(1, 1)).sqrt().sum()
        trainer.backward({"root": loss})
        return {"root": loss}

    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    with pytest.raises(NonFiniteLoss, match=r"step 1 of 3: the gradient of net is not finite, where root = 0; there"):
        trainer.fit(
            title="x", steps=3, networks={"net": network}, optimisers={"o": optimiser}, decay_from=1.0, step=step
        )
    assert network.weight.item() == 0


# ----------------------------------------------------------------------------------------- machine
def test_images_are_mapped_to_minus_one_and_one(tmp_path):
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 3, 1, 3)
    for channels_last in (False, True):
        trainer = Trainer(Context(tmp_path, engine=Engine(device="cpu", channels_last=channels_last)))
        images = trainer.images(batch)
        assert images.dtype == torch.float32
        assert images[1, 2, 0].tolist() == pytest.approx([-1.0, -0.6, 1.0])
        assert images.is_contiguous(memory_format=torch.channels_last) or not channels_last
    assert batch[0, 0, 0].tolist() == [0, 51, 255]


def test_a_network_that_is_not_trained_is_frozen(tmp_path):
    trainer = Trainer(Context(tmp_path, engine=CPU))
    net = trainer.place(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), train=False)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    net = trainer.place(nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval(), train=True)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_trained_weights_are_copies():
    net = nn.Linear(2, 2)
    before = copy.deepcopy(net.state_dict())
    result = trained(net, None, ["a", "b"])
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(result.state["weight"], before["weight"])
    assert result.classes == ("a", "b")


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize(("steps", "lines"), [(3, [1, 2, 3]), (401, [*range(2, 401, 2), 401])])
def test_the_history_is_the_mean_since_its_last_line(tmp_path, steps, lines):
    """About two hundred lines: one for every step or, of 401 steps, for every second and the last."""
    trainer = Trainer(Context(tmp_path, engine=CPU))
    weight = nn.Parameter(torch.zeros(()))

    def step(n):
        trainer.backward({"loss": weight * 1.0})
        return {"square": torch.tensor(float(n * n))}

    history = trainer.fit(
        title="t",
        steps=steps,
        networks={},
        optimisers={"o": torch.optim.SGD([weight], lr=0.1)},
        decay_from=1,
        step=step,
    )
    expected = [np.mean([n * n for n in range(before, line)]) for before, line in pairwise([0, *lines])]
    assert history == {"step": lines, "square": pytest.approx(expected)}


def test_what_is_placed_to_be_trained_is_in_training_mode_and_what_is_not_is_frozen(tmp_path):
    """Whatever it was before: a network with pretrained weights may come in evaluation mode."""
    trainer = Trainer(Context(tmp_path, engine=CPU))
    for before in (True, False):
        assert trainer.place(nn.Sequential(nn.Dropout()).train(before), train=True)[0].training
        frozen = trainer.place(nn.Sequential(nn.Linear(1, 1)).train(before), train=False)
        assert not frozen[0].training
        assert not frozen[0].weight.requires_grad
