from __future__ import annotations

import pytest
import torch

import tiny
from dakit.errors import DakitError
from dakit.results.store import Store, digest
from dakit.results.verify import verify
from dakit.training.checkpoint import save_state


@pytest.fixture
def store(tmp_path, registry):
    """Two results, one of two images and a picture, and one that is under way."""
    from typing import Any, NamedTuple

    class Made(NamedTuple):
        images: Any

    def work(folder):
        (folder / "picture.png").write_bytes(b"picture")
        return Made(tiny.images([0, 1])), {}

    store = Store(tmp_path, registry)
    for stage in ("one", "two-and"):
        with store.writing():
            store.make(stage, digest(stage), {"stage": stage}, {}, work)
    part = store.part("three", digest("three"))
    part.mkdir()
    save_state(part / "checkpoint.safetensors", {"weights": torch.zeros(9)})
    return store


def test_what_is_whole(store):
    one, three, two = verify(store.root)
    assert (one.folder, one.complete, one.files, one.damage) == (f"one-{digest('one')[:16]}", True, 5, [])
    assert one.size == sum(path.stat().st_size for path in store.folder("one", digest("one")).iterdir())
    assert (three.complete, three.files, three.damage) == (False, 1, [])
    assert (two.complete, two.damage) == (True, [])


def test_every_file_counts(store):
    """Each file of each folder, damaged in turn, is named, and nothing else is."""
    paths = sorted(path for path in store.root.glob("*/*"))
    assert len(paths) == 11
    for path in paths:
        whole = path.read_bytes()
        for broken in (whole[:-2], whole[:10] + bytes([whole[10] ^ 1]) + whole[11:] if len(whole) > 11 else b"", None):
            path.unlink() if broken is None else path.write_bytes(broken)
            messages = [message for checked in verify(store.root) for message in checked.damage]
            if broken is None and path.name.startswith("checkpoint"):
                assert messages == []  # it only was not written yet
            else:
                assert len(messages) == 1
                assert str(path) in messages[0]
            path.write_bytes(whole)
    assert not any(checked.damage for checked in verify(store.root))


def test_what_never_got_its_marker_is_told(store):
    (store.folder("one", digest("one")) / "done.json").unlink()
    damage = [checked.damage for checked in verify(store.root) if checked.damage]
    assert len(damage) == 1
    assert "--fresh one " in damage[0][0]


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(DakitError, match=r"none: there is no such folder; expected that of a run"):
        list(verify(tmp_path / "none"))
