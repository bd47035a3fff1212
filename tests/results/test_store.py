from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import torch

from dakit.data.sets import Relabelled, Subset, TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Trained
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.results.store import MARKER, Store, damaged, digest
from dakit.results.verify import verify
from dakit.statistics.metrics import Evaluation
from dakit.training.checkpoint import save_state
from dakit.training.trainer import trained


class Killed(BaseException):
    """Stands for a process that is no more."""


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
    assert sorted(path.name for path in result.folder.iterdir()) == ["done.json", "key.json", "thing.npz"]
    with np.load(result.folder / "thing.npz") as arrays:
        assert {name: array.tolist() for name, array in arrays.items()} == {"0": [4, 0, 4]}
    back = store.open("stage", result.marker["key"], {"pool": lambda: pool}).output("thing")
    assert back.base is pool
    assert list(back.indices) == [4, 0, 4]
    assert list(back.labels) == [0, 0, 0]


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


def test_a_networks_parameters_come_back_in_the_types_of_its_signature(tmp_path):
    plugin = tmp_path / "typed.py"
    plugin.write_text("""
import enum
from dataclasses import dataclass
from pathlib import Path
import torch
from dakit import hookimpl

class Pool(enum.Enum):
    MEAN = "mean"
    MOST = "max"

@dataclass(frozen=True)
class Crop:
    at: tuple[int, int]

class Typed(torch.nn.Module):
    def __init__(
        self, classes: int, *, sizes: tuple[int, ...], pools: frozenset[Pool], table: Path, crop: Crop | None = None
    ) -> None:
        super().__init__()
        self.head = torch.nn.Linear(sum(sizes), classes)

@hookimpl
def dakit_classifiers():
    return {"typed": Typed}
""")
    registry = Registry(find_plugins([plugin]))
    (tmp_path / "store").mkdir()
    given = {"sizes": [3, 4], "pools": ["max", "mean"], "table": "a/b.csv", "crop": {"at": [1, 2]}}
    spec = registry.spec("classifier", "typed", given)
    store = Store(tmp_path / "store", registry)
    put(store, trained(spec.build(2), spec, ("a", "b")), key="k")
    back = store.open("stage", "k", {}).output("thing")
    assert back.spec == spec
    assert hash(back.spec) == hash(spec)
    assert back.spec.params["table"] == Path("a/b.csv")
    assert back.spec.params["crop"].at == (1, 2)
    assert back.build().head.in_features == 7


def test_an_evaluation_and_nothing_come_back(store):
    said = np.array([0, 1, 1])
    given = Evaluation(
        ("a", "b"),
        np.array([3, 5, 9]),
        np.array([0, 0, 1]),
        said,
        np.eye(2, dtype=np.float32)[said],
        np.array(["x", "y", "x"]),
    )
    result = put(store, Two(given, None))
    back = result.output("one")
    assert back.classes == given.classes
    for name in ("indices", "labels", "predictions", "probabilities", "groups"):
        assert np.array_equal(getattr(back, name), getattr(given, name))
    assert result.output("two") is None
    with pytest.raises(DakitError, match="has no output three; it has one, two"):
        result.output("three")


def test_what_cannot_be_kept_is_refused(store):
    with pytest.raises(TypeError, match="a stage may not return int as thing"):
        put(store, 3)


# -------------------------------------------------------------------------------------- cut off
def test_what_a_write_left_behind_is_not_kept(store):
    part = store.part("stage", digest("x"))
    part.mkdir()
    (part / ".checkpoint.safetensors.part").write_bytes(b"half")
    result = put(store, images(), key=digest("x"))
    assert set(result.marker["files"]) == {"key.json", "thing.json", "thing.npy"}
    assert not list(result.folder.glob(".*"))


@pytest.mark.parametrize("after", ["marker", "checkpoint"])
def test_between_its_marker_and_its_place_nothing_is_made_again(store, monkeypatch, after):
    """The checkpoint of a training of days goes only when the marker is on the disk."""
    key = digest("x")

    def work(folder):
        (folder / "checkpoint.safetensors").write_bytes(b"days")
        return Outputs(images()), {}

    def cut(part):
        if after == "checkpoint":
            (part / "checkpoint.safetensors").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.glob", lambda path, what: cut(path) if what == "checkpoint*" else iter(()))
        with pytest.raises(Killed):
            store.make("stage", key, {}, {}, work)
    assert not store.has("stage", key)
    result = store.make("stage", key, {}, {}, lambda folder: pytest.fail("made again"))
    assert len(result.output("thing")) == 5
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "done.json", "key.json", "thing.json", "thing.npy",
    ]  # fmt: skip


def test_discarding_begins_with_the_marker(store, monkeypatch):
    put(store, images(), key=digest("x"))

    def cut(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut)
        with pytest.raises(Killed):
            store.discard("stage", digest("x"))
    assert not store.has("stage", digest("x"))


# ----------------------------------------------------------------------------------------- the lock
def test_a_second_run_is_kept_out_and_told_who_is_there(store, registry):
    other = Store(store.root, registry)

    def enter():
        with other.writing():
            pytest.fail("two runs write")

    with store.writing():
        with pytest.raises(DakitError) as caught:
            enter()
        message = str(caught.value)
    assert f"another run is writing here (pid {os.getpid()} on {socket.gethostname()})" in message
    assert "--out" in message
    with other.writing():
        pass


def test_a_lock_that_is_left_over_locks_nothing(store):
    """Its owner was killed: the name of a process in the file says nothing, the system's lock does."""
    (store.root / "lock").write_text("pid 1 on here, and more than the next owner has to say of itself\n" * 3)
    with store.writing():
        assert (store.root / "lock").read_text() == f"pid {os.getpid()} on {socket.gethostname()}\n"


# ---------------------------------------------------------------------------------- a full disk
@pytest.fixture
def small_files():
    """No file may grow beyond 20 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_much(what, registry):
    def work(folder):
        if what == "checkpoint":
            save_state(folder / "checkpoint.safetensors", {"weights": torch.zeros(10_000)})
        if what == "array":
            np.save(folder / "other.npy", np.zeros(10_000))
        if what == "network":
            spec = registry.spec("classifier", "resnet_cifar", {"depth": 8, "width": 16})
            return Outputs(trained(spec.build(2), spec, ("a", "b"))), {}
        return Outputs(images(1000 if what == "images" else 5)), {}

    return work


@pytest.mark.parametrize("what", ["checkpoint", "array", "network", "images"])
def test_a_full_disk_is_told_and_earlier_results_stay(store, registry, small_files, what):
    earlier = put(store, images())
    work = write_much(what, registry)

    def make():
        with store.writing():
            store.make("stage", digest("x"), {}, {}, work)

    with pytest.raises(
        DakitError, match=r"([Ff]ile too large|is the disk full).*What was complete is untouched; .*same command"
    ):
        make()
    assert not store.has("stage", digest("x"))
    assert not list(store.root.rglob(".*"))
    assert len(store.open("stage", earlier.marker["key"], {}).output("thing")) == 5
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    make()
    assert all(not checked.damage for checked in verify(store.root))


def test_a_disk_that_is_really_full(store, registry, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        store = Store(small, registry)
        with store.writing():
            put(store, images())

        def make():
            with store.writing():
                store.make("stage", digest("x"), {}, {}, write_much("images", registry))
                store.make("stage", digest("y"), {}, {}, write_much("network", registry))

        with pytest.raises(DakitError, match=r"No space left on device|is the disk full"):
            make()
        assert not any(checked.damage for checked in verify(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_may_only_be_read(store):
    earlier = put(store, images())
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may write everywhere
    else:
        store.root.chmod(0o555)
    try:
        with pytest.raises(DakitError, match="cannot be written: Permission denied"), store.writing():
            pytest.fail("not reached")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        store.root.chmod(0o755)
    assert len(earlier.output("thing")) == 5


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


def test_the_peak_of_memory_is_that_of_the_work(store):
    def peak(size: int) -> int:
        def work(folder):
            return Outputs(np.ones(size, np.uint8).sum() and None), {}

        return store.make("stage", digest(size), {}, {}, work).marker["peak_bytes"]

    before = peak(1)
    assert peak(200_000_000) > before + 150_000_000
    if os.path.exists("/proc/self/clear_refs"):
        assert peak(2) < before + 50_000_000


@pytest.mark.parametrize("damage", ["truncate", "alter", "empty"])
def test_a_damaged_marker_is_named_with_the_way_out(store, damage):
    put(store, images(), key=digest("x"))
    path = store.folder("stage", digest("x")) / MARKER
    text = path.read_text()
    path.write_text({"truncate": text[:-9], "alter": text.replace('"seconds": ', '"seconds": 1'), "empty": ""}[damage])
    with pytest.raises(DakitError) as caught:
        _ = store.open("stage", digest("x"), {}).marker
    assert f"{path}: is not what was written" in str(caught.value)
    assert "--fresh stage " in str(caught.value)


def test_a_marker_without_a_checksum_of_its_own_is_read(store):
    """As dakit 0.1.0 wrote it."""
    put(store, images(), key=digest("x"))
    path = store.folder("stage", digest("x")) / MARKER
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"}))
    assert len(store.open("stage", digest("x"), {}).output("thing")) == 5


def test_an_output_is_read_and_checked_once(store):
    result = put(store, images())
    first = result.output("thing")
    (result.folder / "thing.json").write_text("{}")
    assert result.output("thing") is first


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


# ------------------------------------------------------------------ what a result was made from
def test_what_was_begun_with_other_inputs_is_begun_anew(store):
    recipe = {"params": {}}
    key = digest(recipe)

    def cut(folder):
        (folder / "checkpoint.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    def work(folder):
        seen.append((folder / "checkpoint.safetensors").exists())
        return Outputs(images(2)), {}

    seen: list[bool] = []
    for contents in ({"train": "one"}, {"train": "two"}):
        with pytest.raises(KeyboardInterrupt):
            store.make("stage", key, recipe, {}, cut, {"train": "one"})
        result = store.make("stage", key, recipe, {}, work, contents)
        assert result.marker["inputs"] == contents
    assert seen == [True, False]


def test_content_is_equal_where_outputs_are_whenever_they_were_made(store):
    torch.manual_seed(1)
    one = images(3)
    results = [put(store, one, recipe={"n": n}) for n in range(2)]
    assert results[0].content("thing") == results[1].content("thing")
    assert results[0].content() == results[1].content()
    assert put(store, images(3), recipe={"n": 3}).content("thing") != results[0].content("thing")
    other = TensorImages(one.images, [1, 1, 1], one.groups, one.classes)
    assert put(store, other, recipe={"n": 4}).content("thing") != results[0].content("thing")


def test_content_of_a_choice_is_that_of_what_it_was_chosen_from_too(store):
    pool = images(4)

    def chosen(n, content):
        work = lambda folder: (Outputs(Subset(pool, [1, 2])), {})  # noqa: E731
        return store.make("stage", digest(n), {"n": n}, {"pool": lambda: pool}, work, {"pool": content}).content(
            "thing"
        )

    assert chosen(1, "a") == chosen(2, "a") != chosen(3, "b")


# ---------------------------------------------------------------------------- views of the inputs
class Doubled:
    """A set of a kind that dakit does not know: another's pixels, changed."""

    def __init__(self, base, labels, change=0):
        self.base, self.labels, self.groups, self.classes, self.change = base, labels, base.groups, base.classes, change

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        sample = self.base[index]
        return sample._replace(label=self.labels[index], image=sample.image + self.change)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_views_of_an_input_keep_no_pixels(store, n):
    pool = images(4)
    view = [
        Relabelled(pool, [1, 1, 0, -1]),
        Subset(Subset(pool, [3, 2, 1]), [0, 2]),
        Relabelled(Subset(pool, [3, 2]), [0, 0], ("x", "y")),
        Unlabelled(Subset(pool, [1])),
        Doubled(pool, [1, 1, 0, 0]),
    ][n]
    result = put(store, view, inputs={"pool": lambda: pool})
    assert result.marker["outputs"]["thing"]["type"] == "view"
    assert sorted(path.name for path in result.folder.iterdir()) == ["done.json", "key.json", "thing.npz"]
    back = store.open("stage", result.marker["key"], {"pool": lambda: pool}).output("thing")
    assert (list(back.labels), list(back.groups), back.classes) == (
        list(view.labels), list(view.groups), tuple(view.classes),
    )  # fmt: skip
    assert all(torch.equal(back[i].image, view[i].image) and back[i].label == view[i].label for i in range(len(view)))


def test_pixels_that_are_no_inputs_are_kept_one_image_at_a_time(store):
    pool = images(4)
    view = Doubled(pool, [1, 1, 0, 0], change=1)
    result = put(store, view, inputs={"pool": lambda: pool})
    assert result.marker["outputs"]["thing"] == {"type": "images"}
    back = store.open("stage", result.marker["key"], {}).output("thing")
    assert torch.equal(torch.from_numpy(np.array(back.images)), pool.images + 1)
    assert list(back.labels) == [1, 1, 0, 0]


# --------------------------------------------------------------------------------- found by mutants
def test_writing_makes_the_folder_and_all_above_it(tmp_path, registry):
    for _ in range(2):  # and does not mind that it is there
        with Store(tmp_path / "a" / "b" / "store", registry).writing():
            assert (tmp_path / "a" / "b" / "store" / "lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_an_output_that_is_not_there_is_told_with_those_that_are(store):
    result = put(store, Two(images(), None))
    with pytest.raises(DakitError, match="has no output three; it has one, two"):
        result.output("three")


@pytest.mark.parametrize("place", ["adapt-0123456789abcdef", "adapt-0123456789abcdef.part"])
def test_damage_under_way_names_the_stage_too(tmp_path, place):
    assert "--fresh adapt to make" in str(damaged(tmp_path / place / "checkpoint.safetensors"))


def test_the_peak_is_in_bytes(store):
    """A process that has torch loaded holds between 100 MB and, on any machine that tests this, 100 GB."""
    peak = put(store, images()).marker["peak_bytes"]
    assert max(1e8, psutil.Process().memory_info().rss / 2) < peak < 1e11
