from __future__ import annotations

import threading

import pytest
import torch

from dakit.data.batches import Batches, Reader, in_order
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Sample


def images(n, labels=None, classes=()):
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()
    return TensorImages(pixels, labels, classes=classes)


class Counting:
    """A set that remembers which images were decoded, and by which thread."""

    def __init__(self, n):
        self.inner = images(n)
        self.classes, self.labels, self.groups = self.inner.classes, self.inner.labels, self.inner.groups
        self.read = []
        self.threads = set()

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index) -> Sample:
        self.read.append(index)
        self.threads.add(threading.current_thread().name)
        return self.inner[index]


def test_every_image_comes_once_per_epoch_and_in_another_order():
    batches = Batches(images(10), 4, seed=3)
    drawn = [i for n in range(5) for i in batches.indices(n)]  # 20 images, two epochs, across a batch's middle
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert drawn[:10] != list(range(10))


def test_batch_n_is_a_function_of_n():
    forwards = Batches(images(7), 3, seed=1)
    expected = [forwards(n) for n in range(12)]
    backwards = Batches(images(7), 3, seed=1)
    for n in reversed(range(12)):
        for one, two in zip(backwards(n), expected[n], strict=True):
            assert torch.equal(one, two)
    late = Batches(images(7), 3, seed=1)
    for one, two in zip(late(11), expected[11], strict=True):
        assert torch.equal(one, two)
    assert torch.equal(late(11).images, late(11).images)


def test_a_batch_holds_what_its_indices_say():
    labels = [k % 3 for k in range(9)]
    batches = Batches(images(9, labels, ("a", "b", "c")), 4, seed=0)
    batch = batches(5)
    assert batch.indices.tolist() == batches.indices(5)
    assert batch.images[:, 0, 0, 0].tolist() == batch.indices.tolist()
    assert batch.labels.tolist() == [labels[i] for i in batch.indices]
    assert (batch.images.dtype, batch.labels.dtype, batch.indices.dtype) == (torch.uint8, torch.int64, torch.int64)
    assert batch.images.shape == (4, 3, 2, 2)


def test_seeds_give_other_orders():
    orders = {tuple(Batches(images(20), 20, seed).indices(0)) for seed in range(5)}
    assert len(orders) == 5


def test_balanced_batches_draw_every_class_equally_often():
    labels = [0] * 2 + [1] * 7 + [3] * 3  # class 2 has no image
    batches = Batches(images(12, labels, ("a", "b", "c", "d")), 6, seed=0, balanced=True)
    for n in range(7):
        drawn = [labels[i] for i in batches.indices(n)]
        assert [drawn.count(k) for k in range(4)] == [2, 2, 0, 2]
    in_time = [i for n in range(7) for i in batches.indices(n) if labels[i] == 1]
    assert sorted(in_time[:7]) == sorted(in_time[7:14]) == list(range(2, 9))  # its own epochs


def test_balanced_over_a_batch_that_classes_do_not_divide():
    labels = [0, 0, 0, 1, 1]
    batches = Batches(images(5, labels, ("a", "b")), 3, seed=0, balanced=True)
    drawn = [labels[i] for n in range(10) for i in batches.indices(n)]
    assert drawn.count(0) == drawn.count(1) == 15


@pytest.mark.parametrize(
    ("n", "labels", "classes", "size", "balanced", "message"),
    [
        (3, None, (), 4, False, "batch_size is 4, but there are only 3 images"),
        (3, None, (), 2, True, "balanced batches need a label for every image"),
        (3, [0, 1, -1], ("a", "b"), 2, True, "balanced batches need a label for every image"),
    ],
)
def test_what_cannot_be_drawn(n, labels, classes, size, balanced, message):
    with pytest.raises(DakitError, match=message):
        Batches(images(n, labels, classes), size, 0, balanced=balanced)


def test_the_next_batch_is_read_ahead():
    counted = Counting(8)
    batches = Batches(counted, 4, seed=0)
    assert counted.read == [0]  # the first image is looked at in the calling thread: whatever a set does then
    assert counted.threads == {threading.main_thread().name}  # must not start torch's loops in a second one
    counted.read.clear()
    counted.threads.clear()
    first = batches(0)
    assert batches._ahead is not None
    batches._ahead[1].result()
    assert sorted(counted.read) == list(range(8))  # batch 1 was read, too
    second = batches(1)
    assert sorted(first.indices.tolist() + second.indices.tolist()) == list(range(8))
    assert threading.main_thread().name not in counted.threads


def test_an_image_that_stands_twice_in_a_batch_is_read_once():
    counted = Counting(3)
    reader = Reader(counted)
    counted.read.clear()
    assert reader.read([2, 0, 2]).indices.tolist() == [2, 0, 2]
    assert sorted(counted.read) == [0, 2]


def test_changing_a_batch_does_not_change_the_next():
    batches = Batches(images(2), 2, seed=0)
    before = batches(0).images.clone()
    batches(0).images.zero_()
    assert torch.equal(batches(0).images, before)


def test_images_of_different_sizes_are_refused():
    class Uneven(Counting):
        def __getitem__(self, index) -> Sample:
            return Sample(torch.zeros(3, 2 + index, 2, dtype=torch.uint8), -1, "")

    with pytest.raises(DakitError, match=r"image 1 .*\(3, 3, 2\).*\(3, 2, 2\)"):
        Reader(Uneven(2)).read([0, 1])


def test_a_file_that_cannot_be_read_is_told_from_the_thread():
    class Broken(Counting):
        def __getitem__(self, index) -> Sample:
            if index:
                raise DakitError("a.png: cannot be read")
            return super().__getitem__(index)

    batches = Batches(Broken(4), 2, seed=0)
    with pytest.raises(DakitError, match=r"a\.png: cannot be read"):
        batches(0)


def test_in_order():
    found = list(in_order(images(5), 2))
    assert [batch.indices.tolist() for batch in found] == [[0, 1], [2, 3], [4]]
    assert [batch.indices.tolist() for batch in in_order(images(5), 2, start=3)] == [[3, 4]]
    assert list(in_order(images(5), 2, start=5)) == []
