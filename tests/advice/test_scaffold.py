"""``dakit new`` for every kind: what it writes is installed as a distribution, passes its own tests and is clean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dakit.advice.scaffold import write
from dakit.errors import DakitError
from dakit.registry import KINDS

ROOT = Path(__file__).parents[2]


def installed(folder: Path, site: Path) -> None:
    """What an editable install leaves behind: the distribution's metadata, and the way to its sources."""
    text = (folder / "pyproject.toml").read_text()
    name = folder.name
    package = name.replace("-", "_")
    metadata = site / f"{package}-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    line = f'{package} = "{package}.hooks"'
    assert f"[project.entry-points.dakit]\n{line}\n" in text
    (metadata / "entry_points.txt").write_text(f"[dakit]\n{package} = {package}.hooks\n")


def environment(site: Path, folders: list[Path], **more: str) -> dict[str, str]:
    """Of a process that sees the distributions."""
    paths = [str(site), *(str(folder / "src") for folder in folders)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}


def call(*arguments: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory, registry):
    """One distribution of every kind, as installed: (their folders, the environment that sees them)."""
    place = tmp_path_factory.mktemp("new")
    folders = []
    for kind in KINDS:
        folder = place / f"my-{kind.replace('_', '-')}"
        write(kind, folder.name, folder, registry)
        installed(folder, place / "site")
        folders.append(folder)
    return folders, environment(place / "site", folders, DAKIT_CACHE=str(place / "cache"))


def test_each_kind_passes_its_own_tests_and_its_recipe_runs(made):
    """All in one process: torch is imported once. Each has a contract, a value worked by hand, and a recipe."""
    folders, env = made
    tests = [folder / "tests" for folder in folders]
    options = ("-v", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider")
    done = call("pytest", *options, *tests, cwd=folders[0].parent, env=env)
    assert done.returncode == 0, done.stdout[-4000:]
    for kind in KINDS:
        for test in ("test_contract", "test_a_value_worked_by_hand", "test_the_recipe_runs"):
            assert f"test_my_{kind}.py::{test} PASSED" in done.stdout


@pytest.mark.parametrize("name", ["qz", "my-method", "n" * 32, "-".join(["word"] * 6)])
def test_each_is_clean_whatever_its_name(tmp_path, registry, name):
    for kind in KINDS:
        write(kind, name, tmp_path / kind, registry)
    for command in (["check"], ["format", "--check"]):
        done = call("ruff", *command, "--no-cache", tmp_path, cwd=tmp_path, env=dict(os.environ))
        assert done.returncode == 0, done.stdout


def test_templates_are_those_of_the_kinds():
    folders = {path.name for path in (ROOT / "dakit" / "advice" / "scaffold" / "templates").iterdir() if path.is_dir()}
    assert folders == set(KINDS)


def test_names_of_several_words_and_a_short_one(tmp_path, registry):
    files = write("selector", "Nearest-by_3-colours", tmp_path / "x", registry)
    assert files[-1] == tmp_path / "x" / "recipes" / "nearest_by_3_colours.yaml"
    assert all(file.is_file() for file in files)
    hooks = (tmp_path / "x" / "src" / "nearest_by_3_colours" / "hooks.py").read_text()
    assert "from nearest_by_3_colours.nearest_by_3_colours import NearestBy3Colours" in hooks
    assert 'return {"nearest_by_3_colours": NearestBy3Colours}' in hooks
    assert 'name = "Nearest-by_3-colours"' in (tmp_path / "x" / "pyproject.toml").read_text()
    write("dataset", "q", tmp_path / "q", registry)
    assert "def q(" in (tmp_path / "q" / "src" / "q" / "q.py").read_text()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("transfer-loss", "mine", 'there is no kind "transfer-loss", did you mean "transfer_loss"?'),
        ("dataset", "my loss!", '"my loss!" cannot be a name: expected at most 32 letters, .* such as my-loss$'),
        ("dataset", "../up", '"../up" cannot be a name: .* such as up$'),
        ("dataset", "3d-faces", '"3d-faces" cannot be a name: .* such as d-faces$'),
        ("dataset", "mine-", '"mine-" cannot be a name: .* such as mine$'),
        ("dataset", "é", '"é" cannot be a name: .* such as my-method$'),
        ("dataset", "n" * 33, f"cannot be a name: .* such as {'n' * 32}$"),
        ("dataset", "", '"" cannot be a name: .* such as my-method$'),
        ("selector", "tsne-knn", 'there is a selector "tsne_knn" already, from dakit; choose another name'),
        ("dataset", "Random", 'its package would be "random", which Python has already'),
        ("dataset", "class", 'its package would be "class", which Python has already'),
        ("stage", "torch", 'its package would be "torch", which Python has already'),
        ("classifier", "prediction", 'its class would be "Prediction", which dakit has already'),
    ],
)
def test_what_cannot_be_made_is_told_and_nothing_is_written(tmp_path, registry, kind, name, message):
    with pytest.raises(DakitError, match=message):
        write(kind, name, tmp_path / "made", registry)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, registry):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DakitError, match="mine: is there already; nothing was written"):
        write("stage", "mine", tmp_path / "mine", registry)
    assert not list((tmp_path / "mine").iterdir())
    with pytest.raises(DakitError, match="nnn: cannot be written: File name too long"):
        write("stage", "mine", tmp_path / ("n" * 300), registry)
    with pytest.raises(DakitError, match="there is no folder"):
        write("stage", "mine", tmp_path / "gone" / "mine", registry)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path, registry, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DakitError, match="mine: cannot be written: No space left on device"):
        write("stage", "mine", tmp_path / "mine", registry)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_installed_by_pip_it_passes_its_tests_and_the_wheel_of_dakit_can_make_it(tmp_path):
    """The real way: dakit's wheel, a distribution made by it, that built and installed by pip, its own tests."""
    site = tmp_path / "site"
    pip = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site]
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for done in (
        call(*pip, ROOT, cwd=tmp_path, env=env),
        call("dakit", "new", "transfer_loss", "my-loss", cwd=tmp_path, env=env),
        call(*pip, tmp_path / "my-loss", cwd=tmp_path, env=env),
        call("pytest", "-p", "no:cacheprovider", cwd=tmp_path / "my-loss", env=env),
        call("dakit", "check-plugin", "my-loss", cwd=tmp_path, env=env),
        call("dakit", "run", "my-loss/recipes/my_loss.yaml", cwd=tmp_path, env=env),
    ):
        assert done.returncode == 0, done.stdout + done.stderr
