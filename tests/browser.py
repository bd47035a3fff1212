"""A headless Chromium, spoken to over two pipes: what a reader's browser makes of a page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

LOOK = """(async () => {
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
  await new Promise(done => setTimeout(done, 0));
  return {
    images: document.images.length,
    broken: [...document.images].filter(image => !image.complete || !image.naturalWidth).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    scripts: document.scripts.length,
    text: document.body.innerText,
  };
})()"""


SAID = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


class Browser:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self(f"{domain}.enable")

    _session: str | None = None

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._back, 1 << 16)
            assert chunk, "the browser has gone"
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is in ``events``."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps({"id": self._number, "method": method, "params": params, **session}).encode())
        os.write(self._to, b"\0")
        while (message := self._read()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        return dict(message["result"])

    def look(self, path: Path, *, width: int, scheme: str) -> dict[str, Any]:
        """Open a file: what :data:`LOOK` finds, ``requests`` other than data, and what the ``console`` says."""
        self.events.clear()
        self("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        found = self("Runtime.evaluate", expression=LOOK, awaitPromise=True, returnByValue=True)["result"]["value"]
        urls = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        said = [e for e in self.events if e["method"] in SAID]
        return {**found, "requests": [url for url in urls if not url.startswith("data:")], "console": said}


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start one, its profile in ``folder``, and end it."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = (
        f'exec "$0" --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir="$1" '
        f"3<&{theirs_in} 4>&{theirs_out} 2>/dev/null"
    )
    process = subprocess.Popen(
        ["bash", "-c", command, str(CHROMIUM), str(folder)], pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours_out)
        os.close(ours_in)
