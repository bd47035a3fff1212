"""Normalisation layers: which there are, and their statistics estimated anew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dakit.data.batches import Reader
from dakit.interfaces import ImageSet
from dakit.training.trainer import Trainer

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def norm_weights(network: nn.Module) -> list[nn.Parameter]:
    """Scales and offsets of every normalisation layer: torch's, and those of which the class is called so."""
    return [
        weight
        for module in network.modules()
        if isinstance(module, _NORMS) or "norm" in type(module).__name__.lower()
        for weight in module.parameters(recurse=False)
    ]


def batch_norms(network: nn.Module) -> list[_NormBase]:
    """The layers that keep running statistics of what goes through them."""
    return [m for m in network.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


def adapt(trainer: Trainer, network: nn.Module, images: ImageSet, batch_size: int) -> None:
    """Estimate the statistics of batch normalisation anew on ``images``: AdaBN (Li et al., arXiv:1603.04779).

    They become the mean over batches of each batch's mean and (unbiased) variance, all layers in one pass in which
    each normalises by its batch, as torch's ``update_bn`` does it; everything else is in evaluation mode, where the
    network is left. The images come in their order, as equally shared among batches as can be, so that none counts
    for much more than another.

    Args:
        trainer: of the stage.
        network: on the device.
        images: without labels; augmentation has no part in it.
        batch_size: the most images in a batch.
    """
    count = -(-len(images) // batch_size)
    reader = Reader(images)
    shares = np.array_split(np.arange(len(images)), count)
    with torch.no_grad(), trainer.autocast():
        _estimate(network, (trainer.images(reader.read(share.tolist()).images) for share in shares))


def _estimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    layers = batch_norms(network.eval())
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.train()
    for batch in batches:
        network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
