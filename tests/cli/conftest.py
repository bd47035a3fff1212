"""The toy recipe as arguments of the command line."""

from __future__ import annotations

import pytest

import toys as toy_module


@pytest.fixture
def toy(tmp_path, toys):
    """Arguments that name the toy recipe and its plugin."""
    path = tmp_path / "toy.yaml"
    path.write_text(toy_module.RECIPE)
    return [path, "--plugin", toys]
