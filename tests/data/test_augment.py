from __future__ import annotations

import pytest
import torch

from dakit.data.augment import Augmentation, mixed


def faces(n=6, size=8):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


NOTHING = {"shift": 0.0, "rotate": 0.0, "zoom": 0.0, "light": 0.0, "crop": 1.0, "randaugment": 0.0, "erase": 0.0}


@pytest.mark.parametrize("wanted", [None, {}, {"flip": 0.0}, NOTHING])
def test_nothing_wanted_is_nothing_done(wanted):
    module = Augmentation(wanted)
    images = faces()
    assert module(images) is images


def test_flip_is_left_to_right_with_its_probability():
    images = faces(200, 4)
    assert torch.equal(Augmentation({"flip": 1.0})(images), images.flip(3))
    torch.manual_seed(0)
    changed = Augmentation({"flip": 0.3})(images)
    flipped = torch.stack([torch.tensor(torch.equal(a, b.flip(2))) for a, b in zip(changed, images, strict=True)])
    same = torch.stack([torch.tensor(torch.equal(a, b)) for a, b in zip(changed, images, strict=True)])
    assert torch.equal(flipped, ~same)
    assert 0.2 < flipped.float().mean() < 0.4


@pytest.mark.parametrize(
    "wanted",
    [
        {"flip": 0.5},
        {"shift": 0.3},
        {"rotate": 30.0},
        {"zoom": 0.2},
        {"light": 0.5},
        {"colour": 1.0},
        {"crop": 0.3},
        {"randaugment": 0.3},
        {"erase": 1.0},
        {"flip": 0.5, "shift": 0.1, "rotate": 10, "zoom": 0.1, "light": 0.2, "colour": 0.2},
        {"flip": 0.5, "crop": 0.5, "randaugment": 1.0, "erase": 0.5, "light": 0.2},
    ],
)
def test_draws_come_from_the_seed_each_image_has_its_own_and_the_range_stays(wanted):
    images = faces(1, 8).expand(16, 3, 8, 8).contiguous()
    before = images.clone()
    module = Augmentation(wanted)
    torch.manual_seed(3)
    one = module(images)
    torch.manual_seed(3)
    two = module(images)
    torch.manual_seed(4)
    three = module(images)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(images, before)
    assert any(not torch.equal(one[0], other) for other in one[1:])
    assert one.shape == images.shape
    assert one.dtype == torch.float32
    assert -1 - 1e-5 <= one.min() <= one.max() <= 1 + 1e-5


def test_a_shift_moves_by_at_most_its_fraction_and_reflects_the_rest():
    column = torch.linspace(-1, 1, 20).expand(64, 3, 20, 20).contiguous()
    moved = Augmentation({"shift": 0.1})(column)  # at most two pixels of twenty
    step = 2 / 19
    inside = (moved - column)[..., 3:-3]
    assert inside.abs().max() <= 2 * step + 1e-4
    assert inside.abs().max() > step  # some are moved by more than one pixel
    offsets = inside.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(inside, offsets.expand_as(inside), atol=1e-3)  # a shift, not a distortion
    assert moved.min() >= -1 - 1e-5  # nothing is filled with black (0 would be grey here, -2 out of range)


def test_nothing_empty_is_seen_after_a_rotation():
    white = torch.ones(8, 3, 16, 16)
    assert torch.allclose(Augmentation({"rotate": 45.0, "shift": 0.2, "zoom": 0.3})(white), white, atol=1e-4)


@pytest.mark.parametrize("grey", [0.1, 0.2, 0.5])
def test_light_is_a_fraction_of_what_is_there(grey):
    """An image of one grey g keeps its mean through a change of contrast: g (1 - 0.2) to g (1 + 0.2)."""
    torch.manual_seed(0)
    changed = (Augmentation({"light": 0.2})(torch.full((2000, 3, 2, 2), 2 * grey - 1)) + 1) / 2
    assert changed.min() == pytest.approx(0.8 * grey, abs=0.002 * grey + 1e-6)
    assert changed.max() == pytest.approx(1.2 * grey, abs=0.002 * grey + 1e-6)
    assert changed.mean() == pytest.approx(grey, rel=0.02)


def test_contrast_scales_the_distance_from_the_mean():
    torch.manual_seed(0)
    image = torch.full((2000, 3, 4, 4), 0.4)
    image[..., 2:] = 0.6  # the mean is 0.5
    changed = (Augmentation({"light": 0.2})(image * 2 - 1) + 1) / 2
    brightness = changed.mean((1, 2, 3)) / 0.5
    contrast = (changed[:, 0, 0, 3] - changed[:, 0, 0, 0]) / (0.2 * brightness)
    for factor in (brightness, contrast):
        assert 0.8 - 1e-3 <= factor.min() < 0.81
        assert 1.19 < factor.max() <= 1.2 + 1e-3


def test_light_leaves_grey_images_grey():
    grey = faces(8, 8)[:, :1].expand(-1, 3, -1, -1).contiguous()
    changed = Augmentation({"light": 0.5})(grey)
    assert torch.allclose(changed[:, 0], changed[:, 2], atol=1e-4)
    assert not torch.allclose(changed, grey, atol=1e-2)


def test_colour_changes_the_hue_by_a_quarter_of_it_at_most():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(64, 3, 2, 2).contiguous()
    changed = (Augmentation({"colour": 0.2})(red)[:, :, 0, 0] + 1) / 2
    # A hue turned by at most 0.05 of the circle lets green or blue rise to 6 * 0.05 of red at most.
    top, middle, low = changed.sort(1, descending=True).values.T
    assert torch.equal(changed.argmax(1), torch.zeros(64, dtype=torch.long))
    assert ((middle - low) / (top - low)).max() <= 6 * 0.05 + 1e-4


def test_gradients_pass():
    images = faces().requires_grad_()
    Augmentation({"flip": 0.5, "shift": 0.1, "light": 0.2})(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("wanted", [{"light": 0.01}, {"colour": 0.01}, {"light": 0.01, "colour": 0.01}])
def test_a_small_change_of_colour_is_a_small_change_of_the_image(wanted):
    images = faces()
    assert (Augmentation(wanted)(images) - images).abs().max() < 0.1


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize("colour", [0.2, 1.0])
def test_the_hue_turns_by_as_much_as_a_quarter_of_colour(colour):
    """The largest of a thousand even draws in [-q, q] is above 0.98 q, but for a chance of 1e-9."""
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1000, 3, 1, 1).contiguous()
    changed = (Augmentation({"colour": colour})(red)[:, :, 0, 0] + 1) / 2
    top, middle, low = changed.sort(1, descending=True).values.T
    coloured = top - low > 0.1
    sixths = ((middle - low) / (top - low))[coloured]  # of the way from red to yellow or magenta, up to 60 degrees
    still_red = changed.argmax(1)[coloured] == 0
    turned = torch.where(still_red, sixths, 2 - sixths) / 6
    assert 0.98 * colour / 4 < turned.max() <= colour / 4 + 1e-4


# --------------------------------------------------------------------------------- parts of an image
def test_a_crop_is_a_part_of_the_wanted_area_and_shape():
    """Of an image that says where each pixel was: where the corners come from is what was cut out."""
    size, n = 64, 500
    place = torch.linspace(-1, 1, size)
    image = torch.stack([place.expand(size, size), place[:, None].expand(size, size), torch.zeros(size, size)])
    torch.manual_seed(0)
    changed = Augmentation({"crop": 0.4})(image.expand(n, 3, size, size))
    width, height = (
        (changed[:, 0, 0, -1] - changed[:, 0, 0, 0]) / 2 * (size - 1) + 1,
        (changed[:, 1, -1, 0] - changed[:, 1, 0, 0]) / 2 * (size - 1) + 1,
    )
    area, ratio = width * height / size**2, width / height
    assert 0.37 < area.min() < 0.43
    assert 0.9 < area.max() <= 1 + 1e-4
    assert 0.7 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.4
    even = torch.linspace(0, 1, size)
    along = changed[:, 0, 0]
    torch.testing.assert_close(along, along[:, :1] + (along[:, -1:] - along[:, :1]) * even, atol=1e-3, rtol=0)


def test_a_grey_rectangle_is_erased_with_its_probability():
    torch.manual_seed(0)
    changed = Augmentation({"erase": 0.3})(torch.ones(1000, 3, 40, 40))
    gone = (changed == 0).all(1)
    assert torch.equal(gone, (changed != 1).any(1))
    share = gone.float().mean((1, 2))
    assert share[share > 0].numel() / 1000 == pytest.approx(0.3, abs=0.04)
    assert 0.01 < share[share > 0].min()
    assert share.max() < 0.35
    for one in gone[share > 0]:
        rows, columns = one.any(1), one.any(0)
        assert one.sum() == rows.sum() * columns.sum()  # a rectangle


# -------------------------------------------------------------------------------------------- mixup
def test_images_and_targets_are_mixed_by_the_same_share_with_one_another():
    """Image i is evenly of the value i, so that both shares can be read off an image's value and its target."""
    n = 64
    images = torch.arange(n).float()[:, None, None, None].expand(n, 3, 2, 2)
    torch.manual_seed(0)
    x, y = mixed(images, torch.eye(n), 0.4)
    torch.testing.assert_close(y.sum(1), torch.ones(n))
    torch.testing.assert_close(y @ torch.arange(n).float(), x[:, 0, 0, 0])
    assert ((y > 0).sum(1) <= 2).all()
    assert sorted(y.sum(0).nonzero().flatten().tolist()) == list(range(n))
    assert len(set(y.diagonal().tolist())) > n / 2  # a share for each image


@pytest.mark.parametrize(("alpha", "spread"), [(0.2, 0.25 / 1.4), (1.0, 1 / 12), (4.0, 0.25 / 9)])
def test_shares_are_of_a_beta_distribution(alpha, spread):
    """Its variance is 1 / (4 (2 alpha + 1))."""
    torch.manual_seed(0)
    share = mixed(torch.zeros(4000, 3, 1, 1), torch.eye(4000), alpha)[1].diagonal()
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(spread, rel=0.1)


def test_mixing_is_drawn_from_the_seed_and_leaves_what_it_is_given():
    images, targets = faces(), torch.eye(6)
    before = images.clone()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(mixed(images, targets, 1.0))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])
    assert torch.equal(images, before)
