from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dakit.plugins import find_plugins
from dakit.registry import Registry


@pytest.fixture(autouse=True, scope="session")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, as the tensors are tiny and the machine may be busy, and no trace in the user's own cache."""
    torch.set_num_threads(1)
    before = os.environ.get("DAKIT_CACHE")
    os.environ["DAKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["DAKIT_CACHE"]
    else:
        os.environ["DAKIT_CACHE"] = before


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Every component that is installed."""
    return Registry(find_plugins())


@pytest.fixture(scope="session")
def toys() -> Path:
    """A plugin file with tiny components, see there."""
    return Path(__file__).parent / "toys.py"
