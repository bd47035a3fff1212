"""Files of weights from a server, when a user asks: checked, gone on with after a break, never half there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from torch.hub import HASH_REGEX

from dakit.errors import DakitError
from dakit.files import to_disk
from dakit.interfaces import Observer

_CHUNK = 1 << 20
_SECONDS = 60.0  # without a byte


def digest_in(name: str) -> str:
    """How the SHA-256 of a file begins by its name, as torch's hub writes it; "" where the name says nothing.

    >>> digest_in("alexnet-owt-7be5be79.pth"), digest_in("net.pth")
    ('7be5be79', '')
    """
    match = HASH_REGEX.search(name)
    return match.group(1) if match else ""


def download(url: str, place: Path, *, digest: str = "", observers: Iterable[Observer] = ()) -> None:
    """Fetch a file into its place, by way of ``<name>.part`` beside it, which a next call goes on with.

    Args:
        url: of the file; http or https.
        place: where it shall lie.
        digest: how the SHA-256 of its content begins, in hexadecimal; "" = not known, and not checked.
        observers: told of progress, in megabytes.

    Raises:
        DakitError: it is not there, the connection broke off (what came stays), the content is another than ``digest``
            says (what came is thrown away), or it cannot be written. ``place`` is as it was then.
    """
    part = place.with_name(f"{place.name}.part")
    audience = tuple(observers)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, place.name, audience)
    except HTTPError as error:
        raise DakitError(f"{place.name}: cannot be fetched: the server says {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:  # URLError is an OSError
        came = f"; {_size(part)} came" if part.is_file() else ""
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DakitError(f"{place.name}: broke off: {reason}{came}; the same command goes on from there") from error
    with open(part, "rb") as file:
        content_hash = hashlib.file_digest(file, "sha256").hexdigest()
    if not content_hash.startswith(digest):
        part.unlink()
        raise DakitError(
            f"{place.name}: another file than expected came: its SHA-256 begins "
            f"{content_hash[: len(digest)]}, expected {digest}; it was thrown away"
        )
    to_disk(part)
    os.replace(part, place)
    to_disk(place.parent)


def _receive(url: str, part: Path, name: str, audience: tuple[Observer, ...]) -> None:
    """The rest of a file, behind what is there of it."""
    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(request, timeout=_SECONDS)
    except HTTPError as error:
        if have and error.code == 416:  # all of it is there
            return
        raise
    with response:
        if response.status != 206:  # the server knows no ranges
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        for observer in audience:
            observer.work_started(f"fetching {name}, MB", total and total // 10**6)
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                for observer in audience:
                    observer.step(have // 10**6, {})
    if total is not None and have != total:
        raise ConnectionError(f"the connection was closed after {have:,} of {total:,} bytes")


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes"
