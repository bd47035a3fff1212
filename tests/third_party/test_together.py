"""The two plugins as distributions: nothing but dakit's public names, real wheels, and a recipe that mixes all."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLUGINS = ("dakit-mmd", "dakit-fda")
missing = [f"./tests/third_party/{name}" for name in PLUGINS if find_spec(name.replace("-", "_")) is None]
installed = pytest.mark.skipif(bool(missing), reason=f"pip install --no-deps --no-build-isolation {' '.join(missing)}")


@pytest.mark.parametrize("name", PLUGINS)
def test_only_public_names_are_used(name):
    """Those are the modules that the reference has a chapter for."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    public = set(re.findall(r"^## `([\w.]+)`", reference, re.MULTILINE))
    for path in (HERE / name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            used = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                used = {str(node.module)}
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], path
            ours = {module for module in used if module.split(".")[0] == "dakit"}
            assert ours <= public, f"{path}: {ours - public}"


@installed
def test_both_are_listed_with_their_distribution(dakit):
    code, out, _ = dakit("plugins", "--json")
    found = {plugin["distribution"]: plugin for plugin in json.loads(out)}
    assert code == 0
    assert found["dakit-mmd"]["offers"] == "transfer_losses stages"
    assert found["dakit-fda"]["offers"] == "translators stages"
    assert {found[name]["state"] for name in PLUGINS} == {"active"}


@installed
@pytest.mark.parametrize("name", PLUGINS)
def test_the_commands_of_its_readme(name, dakit):
    """All but the one that installs it; the last one runs the contract of every kind it offers."""
    text = (HERE / name / "README.md").read_text(encoding="utf-8")
    commands = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("dakit ")]
    assert len(commands) == 3
    for command in commands:
        code, out, err = dakit(*shlex.split(command))
        assert code == 0, out + err
    assert "all passed" in out


@installed
def test_a_recipe_mixes_both_with_built_ins(dakit, tmp_path):
    code, out, err = dakit("run", HERE / "outside.yaml", "--all-variants", "--out", "run")
    assert code == 0, err
    assert "label agreement of translated images" in err + out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["rows"]) == {"fine_tune", "outside", "aligned", "untranslated", "distilled"}
    code, out, err = dakit("run", HERE / "outside.yaml", "--all-variants", "--out", "run")
    assert (code, "nothing to do" in out + err) == (0, True)


@installed
def test_their_parameters_are_checked_as_dakits_own(dakit):
    code, _, err = dakit("check", HERE / "outside.yaml", "--set", "mmd.betta=1", "--set", "exchange.references=99")
    assert code == 2
    assert 'transfer_loss "mmd" has no such parameter, did you mean "beta"?' in err
    code, _, err = dakit("check", HERE / "outside.yaml", "--set", "fit.translator={use: resnet_generator}")
    assert code == 2
    assert 'translator "resnet_generator" has no amplitudes to fit; fda has' in err


@pytest.mark.slow
def test_wheels_are_built_and_installed_by_pip(tmp_path):
    """As a user would, into a folder of its own."""

    def run(*command):
        path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name in PLUGINS:
        # Not in the checkout, where a build would leave its traces.
        run("build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", HERE / name)
    wheels = sorted((tmp_path / "dist").iterdir())
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["dakit_fda", "dakit_mmd"]
    run("pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "site", *wheels)
    found = {plugin["distribution"]: plugin["state"] for plugin in json.loads(run("dakit", "plugins", "--json"))}
    assert found["dakit-mmd"] == found["dakit-fda"] == "active"
    run("dakit", "run", HERE / "outside.yaml", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "results.json").is_file()
