"""What tests of selectors share: sets of pixels, weights of first layers, and their convolution by hand."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dakit.data.sets import TensorImages

CPU = torch.device("cpu")
SQUEEZENET = Path(__file__).parents[3].parent / "shared" / "data" / "weights" / "squeezenet1_0_imagenet.safetensors"


class PixelStem:
    """A classifier whose stem hands the pixels on."""

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        raise AssertionError("the stem is enough")

    def stem(self, images):
        self.seen.append((images.min().item(), images.max().item()))
        return images


def images(count, size=4, seed=0, labels=None, classes=()):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), np.uint8)
    return TensorImages(pixels, labels, classes=classes)


def clusters(per_cluster, seed):
    """Four well-separated kinds of images; the label is the kind."""
    labels = np.arange(4 * per_cluster) % 4
    centres = np.random.default_rng(99).choice([40, 215], (4, 48))
    noise = np.random.default_rng(seed).normal(0, 8, (len(labels), 48))
    pixels = (centres[labels] + noise).clip(0, 255).astype(np.uint8).reshape(-1, 3, 4, 4)
    return TensorImages(pixels, labels.tolist(), classes=("AN", "HA", "SA", "SU"))


def weights(shape, file):
    generator = torch.Generator().manual_seed(1)
    state = {
        "features.0.weight": torch.randn(shape, generator=generator),
        "features.0.bias": torch.randn(shape[0], generator=generator),
    }
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return {name: tensor.double().numpy() for name, tensor in state.items()}


def convolution(inputs, state, stride, padding):
    """``(n, 3, H, W)`` -> ``(n, C * H' * W')`` in float64, one window at a time."""
    weight, bias = state["features.0.weight"], state["features.0.bias"]
    side = weight.shape[-1]
    padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    places = range(0, padded.shape[-1] - side + 1, stride)
    windows = [padded[:, :, y : y + side, x : x + side].reshape(len(inputs), -1) for y in places for x in places]
    return np.concatenate([w @ weight.reshape(len(weight), -1).T + bias for w in windows], 1)


def alexnet_by_hand(pixels, state):
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    return convolution((pixels / 255 - mean) / deviation, state, stride=4, padding=2)


def squeezenet_by_hand(pixels, state):
    blue_green_red = pixels[:, ::-1] - np.array([104.0, 117.0, 123.0])[:, None, None]
    return convolution(blue_green_red, state, stride=2, padding=0)


def check_neighbours(selection, pool, anchors, t):
    """Against the definition, on features in float64."""
    full = np.sqrt(((anchors[:, None] - pool[None]) ** 2).sum(-1))
    order = full.argsort(1, kind="stable")[:, :t]
    assert selection.indices.dtype == torch.int64
    assert selection.distances.dtype == torch.float32
    np.testing.assert_array_equal(selection.indices.numpy(), order)
    np.testing.assert_allclose(selection.distances.numpy(), np.take_along_axis(full, order, 1), rtol=1e-4)


def choose(selector, pool, anchors, classifier=None):
    return selector(pool, anchors, classifier=classifier, device=CPU)


def without_tsne(monkeypatch):
    """The first two dimensions of the PCA stand in for the embedding."""
    monkeypatch.setattr("dakit_builtins.selectors.tsne_knn._tsne", lambda points, *_: points[:, :2].astype(float))
