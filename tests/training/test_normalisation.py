from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import tiny
from dakit.interfaces import Context, Engine
from dakit.training.normalisation import adapt, batch_norms, norm_weights
from dakit.training.trainer import Trainer


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def trainer(folder: Path) -> Trainer:
    return Trainer(Context(folder, engine=Engine(device="cpu")))


def test_the_statistics_are_torchs_update_bn(tmp_path):
    """Ten images in three batches are 4, 3 and 3."""
    images = tiny.images([0] * 10, seed=2)
    ours, theirs = Net(), Net()
    adapt(trainer(tmp_path), ours, images, 4)
    x = images.images.float() / 127.5 - 1
    torch.optim.swa_utils.update_bn([x[:4], x[4:7], x[7:]], theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_one_batch_is_mean_and_variance_of_the_first_layer(tmp_path):
    images, net = tiny.images([0] * 6, seed=3), Net()
    with torch.no_grad():
        y = net.layers[0](images.images.float() / 127.5 - 1).transpose(0, 1).flatten(1)
    adapt(trainer(tmp_path), net, images, 6)
    torch.testing.assert_close(net.layers[1].running_mean, y.mean(1))
    torch.testing.assert_close(net.layers[1].running_var, y.var(1))


def test_nothing_else_changes_and_dropout_has_no_part_in_it(tmp_path):
    images, plain, dropping = tiny.images([0] * 6, seed=3), Net(), Net(dropout=0.5)
    before = {name: value.clone() for name, value in dropping.state_dict().items()}
    for net in (plain, dropping):
        adapt(trainer(tmp_path), net.train(), images, 4)
    after = dropping.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in plain.state_dict().items())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"layers.{i}.{kind}" for i in (1, 5) for kind in kinds}
    assert not any(module.training for module in dropping.modules())
    assert (dropping.layers[1].momentum, dropping.layers[5].momentum) == (0.3, 0.1)


def test_which_layers_there_are():
    class RmsNorm(nn.Module):  # timm has such
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    instance = nn.InstanceNorm2d(4)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), instance, nn.GroupNorm(2, 4), nn.LayerNorm(4), RmsNorm(), nn.BatchNorm1d(3))
    assert batch_norms(net) == [net[5]]
    assert [tuple(weight.shape) for weight in norm_weights(net)] == [(4,)] * 4 + [(3,)] * 3


def test_a_block_that_is_called_after_its_normalisation_is_none():
    class NormBlock(nn.Sequential):
        pass

    block = NormBlock(nn.Linear(3, 4), nn.LayerNorm(4))
    assert [tuple(weight.shape) for weight in norm_weights(block)] == [(4,), (4,)]
