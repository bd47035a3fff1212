from __future__ import annotations

import pytest
import torch
from torch import nn

from dakit.training.optimiser import Optimiser, superseded


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))


def names(net: nn.Module, group: dict) -> set[str]:
    """Of the weights in a group."""
    return {name for name, weight in net.named_parameters() if any(weight is one for one in group["params"])}


def test_weight_decay_is_of_those_weights_that_timm_decays():
    from timm.optim._param_groups import param_groups_weight_decay

    net = Net()
    ours = Optimiser(weight_decay=0.05).build([net], 1e-3).param_groups
    theirs = param_groups_weight_decay(net, 0.05)
    assert {g["weight_decay"]: names(net, g) for g in ours} == {g["weight_decay"]: names(net, g) for g in theirs}
    assert names(net, next(g for g in ours if g["weight_decay"])) == {"body.weight", "inner.1.weight", "head.weight"}


def test_the_body_has_a_rate_of_its_own():
    net = Net()
    body = [weight for name, weight in net.named_parameters() if not name.startswith("head")]
    groups = Optimiser(body_lr=0.25, weight_decay=0.1).build([net], 0.4, body).param_groups
    assert {(g["lr"], g["weight_decay"]): names(net, g) for g in groups} == {
        (0.1, 0.1): {"body.weight", "inner.1.weight"},
        (0.1, 0.0): {
            "body.bias",
            "norm.weight",
            "norm.bias",
            "inner.0.weight",
            "inner.0.bias",
            "inner.1.bias",
            "scale",
        },
        (0.4, 0.1): {"head.weight"},
        (0.4, 0.0): {"head.bias"},
    }


def test_what_is_frozen_is_in_no_group():
    net = Net()
    net.requires_grad_(False)
    net.head.requires_grad_(True)
    (group,) = Optimiser().build([net], 0.1).param_groups
    assert names(net, group) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("wanted", "theirs"),
    [
        (Optimiser(), lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.999), weight_decay=0)),
        (
            Optimiser("adamw", momentum=0.5, beta2=0.9, weight_decay=0.3),
            lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.5, 0.9), weight_decay=0.3),
        ),
        (Optimiser("adam", weight_decay=0.3), lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3)),
        (
            Optimiser("sgd", weight_decay=0.3),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.3),
        ),
        (Optimiser("sgd", momentum=0.0), lambda p: torch.optim.SGD(p, lr=0.1)),
    ],
)
def test_steps_are_torchs_own(wanted, theirs):
    ends = []
    for make in (lambda net: wanted.build([net], 0.1), lambda net: theirs(net.parameters())):
        torch.manual_seed(0)
        net = nn.Linear(3, 2, bias=False)
        optimiser = make(net)
        for _ in range(4):
            net(torch.randn(5, 3)).square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()
        ends.append(net.weight.detach())
    assert torch.equal(*ends)


def test_several_modules_are_one_optimiser():
    nets = [nn.Linear(2, 2, bias=False), nn.Linear(3, 3, bias=False)]
    (group,) = Optimiser().build(nets, 0.1).param_groups
    assert [weight.shape[0] for weight in group["params"]] == [2, 3]


def test_as_it_is_it_is_adamw_without_decay_on_all_weights_alike():
    assert Optimiser() == Optimiser("adamw", 0.9, 0.999, weight_decay=0.0, body_lr=1.0, clip=None, average=None)


def test_nothing_is_said_twice():
    assert superseded(None, beta1=(0.9, 0.5)) == []
    assert superseded(Optimiser(), beta1=(0.5, 0.5), weight_decay=(0.0, 0.0)) == []
    assert superseded(Optimiser(), beta1=(0.9, 0.5), weight_decay=(0.1, 0.0)) == [
        "`beta1` has no say beside `optimiser`: leave it out, and write momentum: 0.9 within `optimiser`",
        "`weight_decay` has no say beside `optimiser`: leave it out, and write weight_decay: 0.1 within `optimiser`",
    ]
