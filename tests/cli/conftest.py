"""The command line in this process, and the toy recipe as its arguments."""

from __future__ import annotations

import sys

import pytest

import toys as toy_module
from dakit.cli import main


@pytest.fixture
def dakit(monkeypatch, capsys, tmp_path):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dakit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def toy(tmp_path, toys):
    """Arguments that name the toy recipe and its plugin."""
    path = tmp_path / "toy.yaml"
    path.write_text(toy_module.RECIPE)
    return [path, "--plugin", toys]
