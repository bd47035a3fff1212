from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# The examples in their docstrings are run where they are installed.
HERE = Path(__file__).parent
collect_ignore = [
    str(HERE / d / m) for d, m in (("dakit-mmd", "dakit_mmd"), ("dakit-fda", "dakit_fda")) if not find_spec(m)
]


@pytest.fixture(autouse=True)
def _outside_plugins(monkeypatch):
    """The other tests leave them out."""
    monkeypatch.delenv("DAKIT_DISABLE_PLUGINS")
