"""What SECURITY.md promises, tried."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import dakit as library
import toys as toy_module
from dakit.data.sets import read_image
from dakit.errors import DakitError, RecipeError
from dakit.interfaces import File, Folder
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.recipe.yaml_lines import read_yaml
from dakit.registry import Registry
from dakit_builtins.datasets.image_folder import image_folder
from dakit_builtins.datasets.manifest import manifest

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "dakit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
DEEP = "deep: {use: toy_classifier}"
TRAIN = "pretrain: {do: toy_train, train: source.train, classifier: deep}"


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a recipe ran something")

    for module, name in ((os, "system"), (os, "popen"), (os, "remove"), (subprocess, "Popen"), (subprocess, "run")):
        monkeypatch.setattr(module, name, never)


# ------------------------------------------------------------------------------------- hostile recipes
@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Hydra: _target_, _partial_, _args_, defaults lists and interpolation with resolvers
        (DEEP, "deep: {_target_: os.system, _args_: [touch hacked]}"),
        (DEEP, "deep: {use: toy_classifier, _target_: builtins.exec, _args_: ['1']}"),
        ("recipe: toy", "defaults: [/etc/passwd]\nrecipe: toy"),
        ("scale: 0.5", "scale: '${oc.env:HOME}'"),
        ("people: 5", "people: '${eval:1+1}'"),
        # torchtune and jsonargparse: _component_, class_path
        (DEEP, "deep: {_component_: os.system, command: touch hacked}"),
        (DEEP, "deep: {class_path: os.system, init_args: {command: touch hacked}}"),
        # mmengine: _base_, custom_imports, python files, {{ }} and lazy calls
        ("recipe: toy", "_base_: ['/etc/passwd']\nrecipe: toy"),
        ("recipe: toy", "custom_imports: {imports: [evil]}\nrecipe: toy"),
        ("scale: 0.5", 'scale: \'{{ __import__("os").system("touch hacked") }}\''),
        (TRAIN, TRAIN.replace("toy_train", "toys.ToyTrain")),
        # YAML: tags, merge keys into what is no mapping
        (DEEP, "deep: !!python/object/apply:os.system ['touch hacked']"),
        (DEEP, "deep: !!python/name:os.system {use: toy_classifier}"),
        (DEEP, "deep: !!python/module:evil {use: toy_classifier}"),
        (DEEP, "deep: !include /etc/passwd"),
        (DEEP, "deep: {<<: /etc/passwd, use: toy_classifier}"),
        # names that are paths
        (DEEP, "deep: {use: ../evil}"),
        (DEEP, "deep: {use: __class__}"),
        (TRAIN, TRAIN.replace("}", ", __init__: {use: toy_classifier}}")),
        ("recipe: toy", "recipe: ../../elsewhere"),
        ("cycleat\nrows", "cycleat\nplugins: [evil.py]\nrows"),
    ],
)
def test_a_hostile_recipe_is_refused_and_nothing_runs(tmp_path, toys, monkeypatch, old, new):
    assert old in toy_module.RECIPE
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE.replace(old, new))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError):
        load_recipe("toy.yaml", registry=Registry(find_plugins([toys])))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.py", "toy.yaml"]


@pytest.mark.usefixtures("nothing_runs")
def test_a_file_beside_the_recipe_is_not_imported(tmp_path, toys, monkeypatch):
    for name in ("sitecustomize.py", "conftest.py", "toy.py", "plugin.py", "timm.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
    monkeypatch.chdir(tmp_path)
    load_recipe("toy.yaml", registry=Registry(find_plugins([toys])))


def test_the_environment_is_read_in_files_and_folders_alone(tmp_path, toys, monkeypatch):
    monkeypatch.setenv("SECRET", "7")
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE.replace("people: 5", "people: $SECRET"))
    with pytest.raises(RecipeError, match="not '\\$SECRET'"):
        load_recipe(tmp_path / "toy.yaml", registry=Registry(find_plugins([toys])))
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE.replace("title: A toy table", "title: $SECRET"))
    assert load_recipe(tmp_path / "toy.yaml", registry=Registry(find_plugins([toys]))).title == "$SECRET"


def test_an_anchor_bomb_is_refused_before_it_is_expanded():  # it would take years
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(RecipeError, match=r"bomb\.yaml: more than 100,000 values, with what its aliases stand for"):
        read_yaml("\n".join(lines), "bomb.yaml")


def test_aliases_in_reason_are_read():
    text = "a: &a {x: 1}\n" + "".join(f"b{n}: *a\n" for n in range(100))
    assert read_yaml(text, "x.yaml")[0]["b99"] == {"x": 1}


def test_depth_is_an_error_not_a_crash():
    with pytest.raises(RecipeError, match="not valid YAML"):
        read_yaml("[" * 20_000, "deep.yaml")


# -------------------------------------------------------------------------------------------- data
@pytest.fixture
def outside(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / "a.png")
    return tmp_path / "secret.png"


@pytest.mark.parametrize("path", ["../secret.png", "x/../../secret.png", "{absolute}", "./../secret.png"])
def test_a_manifest_reads_nothing_outside_its_root_unless_told(outside, path):
    listed = outside.parent / "in" / "list.csv"
    listed.write_text(f"path,label\na.png,x\n{path.format(absolute=outside)},y\n")
    with pytest.raises(DakitError, match=r"list\.csv:3: .* leads out of"):
        manifest(4, None, file=File(listed))
    if path != "x/../../secret.png":  # there is no folder x
        assert len(manifest(4, None, file=File(listed), outside=True)) == 2


def test_linked_folders_below_a_class_are_not_entered(outside):
    (outside.parent / "in" / "cat").mkdir()
    (outside.parent / "in" / "a.png").rename(outside.parent / "in" / "cat" / "a.png")
    (outside.parent / "in" / "cat" / "up").symlink_to(outside.parent)
    assert len(image_folder(4, None, root=Folder(outside.parent / "in"))) == 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_size_of_an_image_is_looked_at_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DakitError, match="40 x 40 pixels, but at most 1,599 pixels are allowed"):
        read_image(tmp_path / "x.png", 8)


# ------------------------------------------------------------------------------------------ sources
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_pickles_or_fetches(path):
    """Beside tests/test_layers.py, which looks for calls: these modules are not even imported."""
    forbidden = {
        "cloudpickle", "dill", "marshal", "shelve", "joblib", "urllib.request", "requests", "http.client", "httpx",
        "ftplib", "socketserver", "smtplib",
    }  # fmt: skip
    if path.name == "fetching.py":  # what --fetch asks for alone, see below
        forbidden -= {"urllib.request", "http.client"}
    hub = {"hf_hub_download"} if path.name == "timm_classifier.py" else set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & forbidden, f"line {node.lineno}"
            assert "pickle" not in names or path.name == "weights.py", f"line {node.lineno}"  # its error, by name
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            here = f"line {node.lineno}: {called}"
            assert called != "torch.save" or path.name == "faces.py", here  # for kornia, in a folder of that moment
            assert called not in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "compile"}, here
            fetches = {"load_state_dict_from_url", "hf_hub_download", "urlretrieve"} - hub
            assert called.rpartition(".")[2] not in fetches, here


def test_only_the_flag_fetches():
    """What reaches a network is called by `fetch_weights` of a component, that by `dakit.pipeline.weights.fetch`, and
    that by `dakit weights --fetch` and `dakit run --fetch`.
    """
    calls: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Call):
                        called = ast.unparse(inner.func).rpartition(".")[2]
                        calls.setdefault(called, set()).add(f"{path.name}:{node.name}")
    assert calls["urlopen"] == {"fetching.py:_receive"}
    assert calls["_receive"] == {"fetching.py:download"}
    assert calls["hf_hub_download"] == {"timm_classifier.py:_from_hub"}
    networks = {f"{library}_classifier.py:fetch_weights" for library in ("timm", "torchvision")}
    assert calls["download"] | calls["_from_hub"] == networks | {"extractors.py:fetch_extractor"}
    assert calls["fetch_extractor"] == {"tsne_knn.py:fetch_weights", "feature_knn.py:fetch_weights"}
    assert calls["fetch_weights"] == {"weights.py:fetch"}
    assert calls["fetch_files"] == {"weights.py:weights", "run.py:run"}


# ------------------------------------------------------------------------------------------ network
@pytest.mark.slow
def test_a_run_of_every_stage_opens_no_connection(tmp_path, monkeypatch):
    """The demo's stages in its own recipe; tests/test_end_to_end.py runs all rows of the smoke profile so."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("tried to reach the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    sizes = ["source.people=5", "source.per_person=2", "auxiliary.people=10", "target.people=20", "target.per_person=1"]
    sizes += ["target.split={folds: 2, per_class: 5}", "nearest.perplexity=5"]
    sizes += [f"{stage}.steps=1" for stage in ("pretrain", "pretrain_shallow", "stage_1", "stage_2", "adapt")]
    recipe = library.load_recipe("cycleat_sfew", profile="demo", overrides=sizes)
    outcome = library.run(recipe, rows=["cycleat"], out=tmp_path, fold=0)
    assert outcome.made == 9
