from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from dakit.data.randaugment import RandAugment, operations

SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
SPACE = v2.RandAugment._AUGMENTATION_SPACE
IMAGES = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def theirs(name: str, magnitude: int) -> list[torch.Tensor]:
    """What torchvision's own makes of a batch where there is one operation, in both of its signs."""

    class One(v2.RandAugment):
        _AUGMENTATION_SPACE = {name: SPACE[name]}  # noqa: RUF012

    change = One(1, magnitude, interpolation=v2.InterpolationMode.BILINEAR, fill=0.5)
    found = []
    for seed in range(12):
        torch.manual_seed(seed)
        one = change(IMAGES)
        if not any(torch.equal(one, other) for other in found):
            found.append(one)
    return found


def test_the_operations_are_torchvisions():
    assert list(operations(0.5, 1, IMAGES.shape[2:])) == list(SPACE)


@pytest.mark.parametrize("magnitude", [0, 9, 21, 30])
@pytest.mark.parametrize("name", SPACE)
def test_each_operation_is_torchvisions(name, magnitude):
    expected = theirs(name, magnitude)
    ours = [operations(magnitude / 30, sign, IMAGES.shape[2:])[name](IMAGES) for sign in (1, -1)]
    assert len(expected) == (2 if name in SIGNED and magnitude else 1)
    for one in ours:
        assert any(torch.allclose(one, other, atol=1e-5) for other in expected)
    for other in expected:
        assert any(torch.allclose(one, other, atol=1e-5) for one in ours)


def test_every_image_draws_for_itself_two_operations_from_the_seed():
    """Of 400 equal images every pair of operations and signs may come out; alone or in the batch, it is one of them."""
    image = IMAGES[:1]
    batch, before = image.expand(400, -1, -1, -1).contiguous(), image.clone()
    torch.manual_seed(0)
    changed = RandAugment(0.5)(batch)
    steps = [change for sign in (1, -1) for change in operations(0.5, sign, image.shape[2:]).values()]
    pairs = torch.cat([second(first(image)) for first in steps for second in steps])
    distance = (changed[:, None] - pairs[None]).abs().amax((2, 3, 4))
    assert distance.min(1).values.max() < 1e-5
    assert len(set(distance.argmin(1).tolist())) > 100
    assert torch.equal(batch[0], before[0])
    torch.manual_seed(0)
    assert torch.equal(RandAugment(0.5)(batch), changed)


def test_each_operation_comes_as_often_as_every_other(monkeypatch):
    """And each way: five left of fourteen have but one."""
    counts = {}

    def counted(strength, sign, size):
        def count(name):
            def change(x):
                counts[name, sign] = counts.get((name, sign), 0) + len(x)
                return x

            return change

        return {name: count(name) for name in SPACE}

    monkeypatch.setattr("dakit.data.randaugment.operations", counted)
    torch.manual_seed(0)
    RandAugment(0.5)(torch.zeros(2800, 3, 1, 1))
    assert sum(counts.values()) == 2 * 2800
    assert len(counts) == 28
    assert all(count == pytest.approx(200, abs=60) for count in counts.values())
