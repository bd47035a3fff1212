from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dakit.training.ema import WeightAverage
from tiny import assert_same


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def moved(net: nn.Module) -> None:
    """A step that changes weights and running statistics."""
    with torch.no_grad():
        for weight in net.parameters():
            weight += torch.randn_like(weight)
    net(torch.randn(5, 3))


def states(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_it_is_timms_with_warm_up(decay):
    from timm.utils.model_ema import ModelEmaV3

    net = network()
    ours, theirs = WeightAverage({"net": net}, decay), ModelEmaV3(net, decay=decay, use_warmup=True, foreach=False)
    for done in range(1, 12):
        moved(net)
        ours.update(done)
        theirs.update(net, step=done)
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.weights["net"][name], value)
    assert ours.weights["net"]["1.num_batches_tracked"] == 11


def test_once_warm_it_is_torchs():
    """From step 1000 on 1 - n^(-2/3) is 0.99, so that 0.9 holds."""
    swa = torch.optim.swa_utils
    net = network()
    ours = WeightAverage({"net": net}, 0.9)
    theirs = swa.AveragedModel(net, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(net)  # its first step copies
    for done in range(1000, 1010):
        moved(net)
        ours.update(done)
        theirs.update_parameters(net)
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(ours.weights["net"][name], value.detach())


def test_after_the_first_step_it_is_the_weights():
    net = network()
    average = WeightAverage({"net": net}, 0.999)
    moved(net)
    average.update(1)
    assert_same(average.weights["net"], states(net))


def test_the_networks_have_it_only_inside():
    net = network()
    average = WeightAverage({"net": net}, 0.5)
    start = states(net)
    moved(net)
    own = states(net)
    with average.applied():
        assert_same(states(net), start)
    assert_same(states(net), own)
    with pytest.raises(ZeroDivisionError), average.applied():
        1 / 0  # noqa: B018
    assert_same(states(net), own)
    average.apply()
    assert_same(states(net), start)


def test_its_state_comes_back_and_is_its_own():
    net = network()
    average = WeightAverage({"net": net}, 0.5)
    for done in range(1, 4):
        moved(net)
        average.update(done)
    state = copy.deepcopy(average.state_dict())
    other = WeightAverage({"net": network()}, 0.5)
    other.load_state_dict(state)
    assert_same(other.weights, average.weights)
    other.update(4)
    assert_same(state, average.state_dict())


def test_its_layout_is_that_of_the_weights_also_from_a_checkpoint():
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    average = WeightAverage({"net": net}, 0.5)
    average.load_state_dict({"net": {name: value.contiguous() for name, value in net.state_dict().items()}})
    assert average.weights["net"]["weight"].stride() == net.weight.stride()
