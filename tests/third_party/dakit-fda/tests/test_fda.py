from __future__ import annotations

import numpy as np
import pytest
import torch

from dakit import DakitError, TensorImages
from dakit.interfaces import Context, Engine, Spec

pytest.importorskip("dakit_fda", reason="pip install --no-deps --no-build-isolation ./tests/third_party/dakit-fda")
from dakit_fda.stage import FitFDA
from dakit_fda.translator import FDA

from dakit.testing import check_stage, check_translator


def noise(count, seed, size=(10, 12), low=0, high=256):
    generator = torch.Generator().manual_seed(seed)
    return TensorImages(torch.randint(low, high, (count, 3, *size), dtype=torch.uint8, generator=generator))


def batch(images):
    return torch.stack([images[i].image for i in range(len(images))]) / 127.5 - 1


def fit(folder, images, **params):
    stage = FitFDA(translator=Spec("translator", "fda", {"radius": 1, "references": 16, **params}, FDA))
    return stage.run(Context(folder, seed=1, engine=Engine(device="cpu")), references=images).translator


def by_hand(image, reference, radius):
    """The exchange with NumPy, on an image in [0, 1], frequency by frequency."""
    out = np.empty_like(image)
    for c in range(3):
        ours, theirs = np.fft.fft2(image[c]), np.fft.fft2(reference[c])
        for i in range(-radius, radius + 1):
            for j in range(-radius, radius + 1):
                ours[i, j] = np.abs(theirs[i, j]) * np.exp(1j * np.angle(ours[i, j]))
        out[c] = np.fft.ifft2(ours).real
    return out.clip(0, 1)


@pytest.mark.parametrize("radius", [1, 3, 4])
def test_the_translation_is_that_of_numpy(tmp_path, radius):
    references, images = noise(1, 1), noise(3, 2)
    translated = fit(tmp_path, references, radius=radius, references=1).build()(batch(images)).numpy()
    for image, made in zip(images.images.numpy(), translated, strict=True):
        expected = by_hand(image / 255, references.images[0].numpy() / 255, radius)
        assert (made + 1) / 2 == pytest.approx(expected, abs=1e-5)


def test_an_image_takes_its_own_amplitudes_back(tmp_path):
    images = noise(1, 1)
    made = fit(tmp_path, images, radius=2, references=1).build()(batch(images))
    assert torch.allclose(made, batch(images), atol=1e-5)


def test_a_dark_image_becomes_as_bright_as_its_reference(tmp_path):
    dark, bright = noise(2, 1, high=50), noise(1, 2, low=200)
    made = fit(tmp_path, bright, references=1).build()(batch(dark))
    assert torch.allclose(made.mean((2, 3)), batch(bright).mean((2, 3)).expand(2, 3), atol=0.02)


def test_references_may_have_another_size(tmp_path):
    one = torch.full((1, 3, 8, 8), 60, dtype=torch.uint8)
    made = fit(tmp_path, TensorImages(one), references=1).build()(torch.zeros(1, 3, 20, 10))
    assert torch.allclose(made, torch.full_like(made, 60 / 127.5 - 1), atol=1e-5)


def test_images_choose_among_all_references_and_always_the_same(tmp_path):
    references = TensorImages(torch.stack([torch.full((3, 8, 8), 40 * i) for i in range(1, 5)]).to(torch.uint8))
    network = fit(tmp_path, references, references=4).build()
    given = batch(noise(64, 3, size=(8, 8), low=100, high=156))
    made = network(given)
    assert len(made.mean((1, 2, 3)).mul(127).round().unique()) == 4
    assert torch.equal(network(given.flip(0)).flip(0), made)


def test_references_are_drawn_without_repetition(tmp_path):
    colours = torch.stack([torch.full((3, 8, 8), 10 * i) for i in range(20)]).to(torch.uint8)
    few = fit(tmp_path, TensorImages(colours), references=5).state["amplitudes"][:, 0, 1, 1]
    assert len(few.unique()) == 5
    assert {round(float(value) * 25.5) for value in few} < set(range(20))
    assert {round(float(value) * 25.5) for value in few} != set(range(5))


def test_what_does_not_fit_is_told(tmp_path):
    stage = FitFDA(translator=Spec("translator", "fda", {"references": 4}, FDA))
    assert stage.check(frozenset()) == []
    assert stage.check_sizes({"references": None}) == stage.check_sizes({"references": 4}) == []
    assert stage.check_sizes({"references": 3}) == ["translator: 4 references, but there are 3 images; at most 3 fits"]
    with pytest.raises(DakitError, match="at most 3 fits"):
        fit(tmp_path, noise(3, 1), references=4)
    with pytest.raises(DakitError, match=r"images of 10 x 12 pixels have no radius 5; at most 4 fits"):
        fit(tmp_path, noise(1, 1), references=1, radius=5)
    other = FitFDA(translator=Spec("translator", "resnet_generator", {}, object))
    assert other.check(frozenset()) == ['translator "resnet_generator" has no amplitudes to fit; fda has']


@pytest.mark.parametrize("params", [{}, {"radius": 4, "references": 1}])
def test_contract_of_the_translator(params):
    check_translator(FDA, **params)


def test_contract_of_the_stage():
    check_stage(FitFDA, translator=Spec("translator", "fda", {"radius": 2, "references": 3}, FDA))
