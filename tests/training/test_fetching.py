from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dakit.errors import DakitError
from dakit.training.fetching import download
from served import Served, serving

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        one.files["/net.pth"] = CONTENT
        yield one


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, int | None]] = []

    def work_started(self, title: str, steps: int | None) -> None:
        self.events.append((title, steps))

    def step(self, done: int, losses: object) -> None:
        self.events.append(("step", done))


def test_whole(served: Served, tmp_path: Path) -> None:
    told = Told()
    place = tmp_path / "hub" / "checkpoints" / "net.pth"
    download(f"{served.address}/net.pth", place, digest=DIGEST, observers=[told])
    assert place.read_bytes() == CONTENT
    assert [path.name for path in place.parent.iterdir()] == ["net.pth"]
    assert told.events == [("fetching net.pth, MB", 1), ("step", 1)]


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_off_and_gone_on_with(ranges: bool, served: Served, tmp_path: Path) -> None:
    served.ranges = ranges
    served.broken = [300_000]
    place = tmp_path / "net.pth"
    with pytest.raises(DakitError, match=r"net\.pth: broke off: .*; 300,000 bytes came; the same command goes on"):
        download(f"{served.address}/net.pth", place, digest=DIGEST)
    assert not place.exists()
    assert (tmp_path / "net.pth.part").read_bytes() == CONTENT[:300_000]
    download(f"{served.address}/net.pth", place, digest=DIGEST)
    assert place.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
    assert [asked for _, _, asked in served.asked] == ["", "bytes=300000-"]


def test_all_of_it_came_but_was_not_renamed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "net.pth.part").write_bytes(CONTENT)
    download(f"{served.address}/net.pth", tmp_path / "net.pth", digest=DIGEST)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_wrong_checksum(served: Served, tmp_path: Path) -> None:
    served.files["/net.pth"] = CONTENT[:-1] + b"x"
    (tmp_path / "net.pth").write_bytes(b"before")
    with pytest.raises(DakitError, match=rf"another file than expected came: .* expected {DIGEST}; it was thrown away"):
        download(f"{served.address}/net.pth", tmp_path / "net.pth", digest=DIGEST)
    assert (tmp_path / "net.pth").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_not_there(served: Served, tmp_path: Path) -> None:
    with pytest.raises(DakitError, match=r"other\.pth: cannot be fetched: the server says 404 Not Found"):
        download(f"{served.address}/other.pth", tmp_path / "other.pth")
    assert list(tmp_path.iterdir()) == []


def test_no_server(served: Served, tmp_path: Path) -> None:
    with pytest.raises(DakitError, match=r"net\.pth: broke off: .*refused"):
        download("http://127.0.0.1:1/net.pth", tmp_path / "net.pth")
    assert list(tmp_path.iterdir()) == []
