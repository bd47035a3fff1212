from __future__ import annotations

import numpy as np
import torch

import tiny
from dakit.data.sets import Unlabelled
from dakit.interfaces import Prediction
from dakit.report.thumbnails import attention, examples, load_strips, pick, save_samples, save_strips, thumbnails


def test_small_images_stay_and_large_ones_shrink():
    images = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    assert (thumbnails(images) == images.permute(0, 2, 3, 1).numpy()).all()
    flat = torch.full((1, 3, 300, 150), 77, dtype=torch.uint8)
    assert thumbnails(flat).shape == (1, 96, 48, 3)
    assert (thumbnails(flat) == 77).all()


def test_examples_take_the_classes_in_turn():
    labels = [0] * 10 + [1] * 2 + [2]
    assert [labels[i] for i in examples(labels, 5)] == [0, 0, 1, 1, 2]
    assert examples([], 3) == []
    assert examples([4], 3) == [0]


def test_strips_are_read_as_written(tmp_path):
    images = tiny.images([0, 1])
    strips = [("a", pick(images, [0])), ("a", pick(images, [1, 0]))]
    save_strips(tmp_path / "s.npz", strips, more=np.arange(3))
    read = load_strips(tmp_path / "s.npz")
    assert [title for title, _ in read] == ["a", "a"]
    assert all((a == b).all() for (_, a), (_, b) in zip(read, strips, strict=True))
    assert (read[1][1][0] == images.images[1].permute(1, 2, 0).numpy()).all()


def test_samples_of_sets_with_and_without_labels(tmp_path):
    labelled = tiny.images([0, 0, 2])
    save_samples(tmp_path / "s.npz", {"source": labelled, "web": Unlabelled(labelled)}, count=2)
    (source, pictures), (web, others) = load_strips(tmp_path / "s.npz")
    assert (source, web) == ("source\na\nc", "web\n\n")
    assert len(pictures) == len(others) == 2
    with np.load(tmp_path / "s.npz") as file:
        assert file["classes"].tolist() == ["a", "b", "c"]
        assert file["counts"].tolist() == [[2, 0, 1], [0, 0, 0]]


def test_attention_is_the_sum_of_absolute_activations_of_the_deepest_map():
    deep = torch.tensor([[[[1.0, -3.0]], [[-1.0, 1.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])  # (2, 2, 1, 2)
    said = Prediction(torch.zeros(2, 1), torch.zeros(2, 1), (torch.ones(2, 1, 4, 4), deep))
    assert attention(said).tolist() == [[[0.5, 1.0]], [[0.0, 0.0]]]
