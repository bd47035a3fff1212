from __future__ import annotations

import pytest

from dakit.data.parts import part_role, refuse_parts
from dakit.errors import DakitError


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", ["train", "Train", "TRAIN", "training", "training_set", "train2017", "trainset", "trainval", "trn"]),
        ("val", ["val", "Valid", "validation", "validation-set", "dev", "devel", "val_2", "DevSet", "valdata"]),
        ("test", ["test", "Testing", "test set", "testset", "PublicTest", "private_test", "eval", "Test1", "holdout"]),
        (
            None,
            ["Set 1", "1", "fold0", "a", "", "extra", "trains", "contest", "train_or_test", "train cars", "unlabeled"],
        ),
    ],
)
def test_what_a_part_is_for_is_told_by_its_name(role, names):
    assert {name: part_role(name) for name in names} == dict.fromkeys(names, role)


@pytest.mark.parametrize(
    ("names", "deep", "refused"),
    [
        (["train", "test"], [], True),  # images in both, no classes anywhere
        (["Train", "Test"], ["Train", "Test"], True),
        (["train", "test", "validation_set"], ["train", "test", "validation_set"], True),
        (["train", "test", "extra"], ["train", "test", "extra"], True),
        (["train"], ["train"], True),
        (["train", "training"], [], False),
        (["train", "car"], [], False),  # classes: vehicles
        (["train", "car"], ["train", "car"], False),
        (["train", "test", "car"], ["car"], False),
        (["test"], [], False),
        ([], [], False),
        (["cat", "dog"], ["cat", "dog"], False),
    ],
)
def test_parts_are_no_classes(names, deep, refused):
    if not refused:
        refuse_parts(names, "here", deep)
        return
    with pytest.raises(DakitError, match=r"here: holds .* where class folders are expected") as caught:
        refuse_parts(names, "here", deep)
    assert all(name in str(caught.value) for name in names)
