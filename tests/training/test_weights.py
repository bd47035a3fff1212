from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dakit.errors import DakitError
from dakit.training.weights import load_weights, read_weights


class Network(nn.Module):
    def __init__(self, width: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Linear(4, width)
        self.head = nn.Linear(width, classes)


class Evil:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "nested.pth"])
def test_a_state_dict_comes_back(tmp_path, name):
    state = Network().state_dict()
    if name == "x.safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state, "epoch": 3} if name == "nested.pth" else state, tmp_path / name)
    read = read_weights(tmp_path / name)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    value = {"body.weight": Evil(tmp_path / "hacked")}
    if zipped:
        torch.save(value, tmp_path / "x.pth")
    else:
        (tmp_path / "x.pth").write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(DakitError, match=r"x\.pth: cannot be read as a state dict: it holds Python objects") as e:
        read_weights(tmp_path / "x.pth")
    assert "weights_only" not in str(e.value)  # no advice to let it run
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix, keep):
    path = tmp_path / f"x.{suffix}"
    save_file(Network(50).state_dict(), path) if suffix == "safetensors" else torch.save(Network(50).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DakitError, match=rf"x\.{suffix}: cannot be read as a state dict: "):
        read_weights(path)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"a": "text"}, {"state_dict": 3}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DakitError, match="it holds other things; expected a state dict of tensors"):
        read_weights(tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DakitError, match=r"x\.pth: cannot be read as a state dict: No such file"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value):
    state = Network().state_dict()
    state["head.bias"][1] = value
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(DakitError, match=r"1 of 4 tensors hold NaN or infinity: head\.bias"):
        read_weights(tmp_path / "x.safetensors")


def test_a_head_of_another_number_of_classes_stays_as_it_is(tmp_path):
    theirs, ours = Network(classes=5), Network(classes=3)
    before = ours.head.weight.clone()
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    load_weights(ours, tmp_path / "x.safetensors", head="head", arch="net")
    assert torch.equal(ours.head.weight, before)
    assert torch.equal(ours.body.weight, theirs.body.weight)


def test_other_shapes_and_another_architecture_are_told_apart(tmp_path):
    save_file(Network(width=7).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(DakitError, match="do not fit net: 2 entries beside the head differ") as caught:
        load_weights(Network(), tmp_path / "wide.safetensors", head="head", arch="net")
    assert str(caught.value).splitlines()[1:] == [
        "  body.weight: (7, 4), expected (2, 4)",
        "  body.bias: (7,), expected (2,)",
    ]
    save_file({"features.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DakitError, match="no name is the same: these are weights of another architecture"):
        load_weights(Network(), tmp_path / "other.safetensors", head="head", arch="net")


def test_weights_that_dakit_trained_are_known_by_their_names(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(2, 2)

    save_file(Wrapped().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(DakitError, match=r"dakit trained; a stage starts from them with init: \{run: DIR, row: NAME\}"):
        load_weights(nn.Linear(2, 2), tmp_path / "model.safetensors", head="", arch="linear")
