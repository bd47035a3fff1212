from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from dakit.data.sets import Subset, TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Trained
from dakit.metrics import Evaluation
from dakit.store import MARKER, Store, digest
from dakit.training import trained


class Outputs(NamedTuple):
    thing: Any


class Two(NamedTuple):
    one: Any
    two: Any


def images(n=5):
    pixels = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8)
    return TensorImages(pixels, [i % 2 for i in range(n)], [f"g{i}" for i in range(n)], ("a", "b"))


@pytest.fixture
def store(tmp_path, registry):
    root = tmp_path / "store"
    root.mkdir()
    return Store(root, registry)


def put(store, value, *, stage="stage", recipe=None, inputs=None, key=None):
    recipe = recipe or {"params": {"steps": 1}, "inputs": {}}
    outputs = value if isinstance(value, tuple) and hasattr(value, "_asdict") else Outputs(value)
    return store.make(stage, key or digest(recipe), recipe, inputs or {}, lambda folder: (outputs, {}))


def model(registry) -> Trained[Classifier]:
    spec = registry.spec("classifier", "resnet_cifar", {"depth": 8, "width": 4})
    return trained(spec.build(2), spec, ("a", "b"))


# ------------------------------------------------------------------------------------------- keys
def test_a_digest_is_of_the_content():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert len(digest({})) == 64


# ------------------------------------------------------------------------------------- completion
def test_the_marker_is_what_completes_a_result_and_is_written_last(store, registry):
    key = digest("x")
    seen = {}

    def work(folder):
        seen["folder"] = folder
        seen["during"] = (store.has("stage", key), (folder / MARKER).exists(), (folder / "key.json").exists())
        (folder / "checkpoint.safetensors").write_bytes(b"")
        (folder / "picture.png").write_bytes(b"picture")
        return Outputs(images()), {"notes": ["a note"], "facts": {"fact": 1}}

    result = store.make("stage", key, {"params": {}}, {}, work)
    assert seen["folder"] == store.part("stage", key)
    assert seen["during"] == (False, False, True)
    assert not store.part("stage", key).exists()
    assert result.folder == store.folder("stage", key)
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "done.json", "key.json", "picture.png", "thing.json", "thing.npy",
    ]  # fmt: skip
    assert store.has("stage", key)
    marker = result.marker
    assert marker["notes"] == ["a note"]
    assert marker["facts"] == {"fact": 1}
    assert marker["key"] == key
    assert set(marker["files"]) == {"key.json", "picture.png", "thing.json", "thing.npy"}


def test_a_crash_leaves_no_marker_and_the_next_goes_on_in_the_same_folder(store):
    key = digest("x")

    def crash(folder):
        (folder / "checkpoint.safetensors").write_bytes(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.make("stage", key, {"params": {}}, {}, crash)
    assert not store.has("stage", key)
    assert not store.folder("stage", key).exists()
    found = []

    def go_on(folder):
        found.append((folder / "checkpoint.safetensors").read_bytes())
        return Outputs(images()), {}

    result = store.make("stage", key, {"params": {}}, {}, go_on)
    assert found == [b"half"]
    assert store.has("stage", key)
    assert not list(result.folder.glob("checkpoint*"))


def test_a_folder_that_lost_its_marker_is_made_again(store):
    result = put(store, images(), key=digest("x"))
    (result.folder / MARKER).unlink()
    assert not store.has("stage", digest("x"))
    put(store, images(), key=digest("x"))
    assert store.has("stage", digest("x"))


def test_discard_forgets_what_is_complete_and_what_is_under_way(store):
    put(store, images(), key=digest("x"))
    store.part("stage", digest("x")).mkdir()
    store.discard("stage", digest("x"))
    assert list(store.root.iterdir()) == []
    store.discard("stage", digest("never made"))


# ---------------------------------------------------------------------------------------- outputs
def test_images_come_back_as_a_memory_map(store):
    given = images()
    put(store, given, key="k" * 64)
    back = store.open("stage", "k" * 64, {}).output("thing")
    assert isinstance(back.images, np.memmap)
    assert np.array_equal(back.images, given.images.numpy())
    assert (back.labels, back.groups, back.classes) == (given.labels, given.groups, given.classes)
    assert back.fingerprint() == given.fingerprint()


def test_a_memory_map_in_the_folder_is_not_written_again(store):
    written = []

    def work(folder):
        array = np.lib.format.open_memmap(folder / "thing.npy", "w+", dtype=np.uint8, shape=(2, 3, 4, 4))
        array[:] = 7
        array.flush()
        written.append((folder / "thing.npy").stat().st_ino)
        return Outputs(TensorImages(np.load(folder / "thing.npy", mmap_mode="r"), [0, 1], classes=("a", "b"))), {}

    result = store.make("stage", digest("x"), {}, {}, work)
    assert (result.folder / "thing.npy").stat().st_ino == written[0]
    back = store.open("stage", digest("x"), {}).output("thing")
    assert back[1].image.unique().tolist() == [7]
    assert back.labels == [0, 1]


def test_any_image_set_is_written(store):
    class Own:
        classes = ("a",)
        labels = (0, 0)
        groups = ("x", "y")

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return images()[index]._replace(label=0)

    back = put(store, Own()).output("thing")
    assert (back.labels, back.groups, back.classes, len(back)) == ([0, 0], ["x", "y"], ("a",), 2)


def test_a_choice_from_an_input_is_kept_as_indices(store):
    pool = images(5)
    result = put(store, Subset(pool, [4, 0, 4]), inputs={"pool": lambda: pool})
    assert sorted(path.name for path in result.folder.iterdir()) == ["done.json", "key.json", "thing.npy"]
    assert np.load(result.folder / "thing.npy").tolist() == [4, 0, 4]
    back = store.open("stage", result.marker["key"], {"pool": lambda: pool}).output("thing")
    assert back.base is pool
    assert back.indices == [4, 0, 4]
    assert back.labels == [0, 0, 0]


def test_a_choice_from_elsewhere_is_written_out(store):
    pool = images(5)
    back = put(store, Subset(pool, [4, 0]), inputs={"pool": lambda: images(5)}).output("thing")
    assert isinstance(back, TensorImages)
    assert torch.equal(back[0].image, pool[4].image)


def test_a_network_comes_back_with_its_weights(store, registry):
    given = model(registry)
    back = put(store, given).output("thing")
    assert back.spec == given.spec
    assert back.classes == ("a", "b")
    assert {k: v.tolist() for k, v in back.state.items()} == {k: v.tolist() for k, v in given.state.items()}
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(back.build()(x).logits, given.build()(x).logits)


def test_an_evaluation_and_nothing_come_back(store):
    said = np.array([0, 1, 1])
    given = Evaluation(("a", "b"), np.array([3, 5, 9]), np.array([0, 0, 1]), said, np.eye(2, dtype=np.float32)[said])
    result = put(store, Two(given, None))
    back = result.output("one")
    assert back.classes == given.classes
    for name in ("indices", "labels", "predictions", "probabilities"):
        assert np.array_equal(getattr(back, name), getattr(given, name))
    assert result.output("two") is None
    with pytest.raises(DakitError, match="has no output three; it has one, two"):
        result.output("three")


def test_what_cannot_be_kept_is_refused(store):
    with pytest.raises(TypeError, match="a stage may not return int as thing"):
        put(store, 3)


# ---------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
@pytest.mark.parametrize("file", ["thing.npy", "thing.json"])
def test_a_damaged_result_is_named_with_the_way_out(store, file, damage):
    result = put(store, images(), stage="my-stage_2")
    path = result.folder / file
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DakitError) as caught:
        store.open("my-stage_2", result.marker["key"], {}).output("thing")
    assert str(path) in str(caught.value)
    assert "truncated or altered" in str(caught.value)
    assert "--fresh my-stage_2 " in str(caught.value)


def test_a_damaged_network_is_named(store, registry):
    result = put(store, model(registry))
    path = result.folder / "thing.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DakitError, match=r"thing\.safetensors: is not what was written"):
        result.output("thing")


def test_a_damaged_output_does_not_hinder_another(store):
    result = put(store, Two(images(), images()))
    (result.folder / "one.npy").write_bytes(b"")
    assert len(result.output("two")) == 5


# --------------------------------------------------------------------------------------- nearest
def test_the_nearest_result_tells_what_changed(store):
    base = {"stage": "s", "version": 1, "params": {"lr": 0.1, "steps": 5}, "seed": 0, "inputs": {"train": "aa"}}
    put(store, images(), stage="s", recipe=base)
    put(store, images(), stage="s", recipe={**base, "seed": 1, "params": {"lr": 0.2, "steps": 7}})
    put(store, images(), stage="s-2", recipe={**base, "params": {"lr": 0.3, "steps": 5}})
    assert store.nearest("s", {**base, "params": {"lr": 0.3, "steps": 5}}) == ["lr: 0.1 -> 0.3"]
    assert store.nearest("s", {**base, "inputs": {"train": "bb"}}) == ["train is another"]
    assert store.nearest("s", {**base, "version": 2}) == ["version: 1 -> 2"]
    assert store.nearest("s", {**base, "seed": 1, "params": {"lr": 0.2, "steps": 8}}) == ["steps: 7 -> 8"]
    assert store.nearest("t", base) == []


def test_what_is_under_way_is_not_near(store):
    key = digest("x")
    store.part("s", key).mkdir()
    (store.part("s", key) / "key.json").write_text(json.dumps({"seed": 0}))
    assert store.nearest("s", {"seed": 1}) == []
