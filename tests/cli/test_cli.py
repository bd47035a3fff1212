from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

import toys as toy_module
from dakit.files import shipped_recipes
from dakit.plugins import find_plugins
from dakit.registry import KINDS, Registry

HEAVY = ("torch", "numpy", "timm", "kornia", "torchvision", "sklearn", "matplotlib", "accelerate", "PIL")


def flat(text: str) -> str:
    """Without line breaks, which depend on the terminal's width."""
    return " ".join(text.split())


# --------------------------------------------------------------------------------------- at once
@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["recipes"], ["recipes", "cycleat_sfew"], ["plugins"]]
)
def test_nothing_heavy_is_imported_for_an_answer_at_once(arguments):
    script = (
        f"import sys; sys.argv = ['dakit', *{arguments!r}]\n"
        "from dakit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', *sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]


def modules(script: str) -> set[str]:
    """What a new process has imported in the end."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}\nprint(*sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "beside", "budget"),
    [
        (["--help"], "import typer", 60),  # 0.1 s in all
        (["check", "cycleat_sfew", "--profile", "demo"], "import torch", 350),  # well under a second more
    ],
)
def test_start_up_keeps_its_budget_of_modules(arguments, beside, budget):
    """Modules are counted, not seconds, which depend on the machine."""
    command = f"sys.argv = ['dakit', *{arguments!r}]\nfrom dakit.cli import main\ntry: main()\nexcept SystemExit: pass"
    ours = modules(command) - modules(beside)
    assert len(ours) <= budget
    assert not ours & {"timm", "kornia", "torchvision", "sklearn", "scipy", "matplotlib", "openTSNE"}


def test_a_plugin_author_imports_nothing_heavy():
    script = f"import sys; from dakit import hookimpl; assert not set(sys.modules) & set({HEAVY!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_fault():
    script = "import sys; sys.argv = ['dakit', 'recipes']\nfrom dakit.cli import main\ninput()\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() in (0, 1)


# ----------------------------------------------------------------------------------------- answers
def test_without_a_command_help_is_shown(dakit):
    _, out, err = dakit()
    for command in ("run", "plan", "check", "list", "show", "plugins", "recipes"):
        assert f" {command} " in out + err


def test_plugins(dakit, toys):
    code, out, _ = dakit("plugins", "--plugin", toys, "--json")
    assert code == 0
    found = {row["plugin"]: row for row in json.loads(out)}
    assert found["builtins"]["distribution"] == "dakit"
    assert found["builtins"]["version"] == importlib.metadata.version("dakit")
    assert found["builtins"]["state"] == "active"
    assert found["toys"]["offers"] == "datasets translators classifiers stages"
    _, table, _ = dakit("plugins")
    assert "builtins" in table
    assert "active" in table


def test_plugins_that_cannot_be_used_are_warned_of_and_a_run_goes_on(dakit, toy, tmp_path, monkeypatch):
    bad = "from dakit import hookimpl\n@hookimpl\ndef dakit_translater():\n    return {}\n"
    (tmp_path / "dakit_test_typo.py").write_text(bad)
    (tmp_path / "dakit_test_typo-3.dist-info").mkdir()
    (tmp_path / "dakit_test_typo-3.dist-info" / "METADATA").write_text("Name: dakit-test-typo\nVersion: 3\n")
    (tmp_path / "dakit_test_typo-3.dist-info" / "entry_points.txt").write_text("[dakit]\ntypo = dakit_test_typo\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = 'dakit-test-typo/typo: failed: dakit asks no hook dakit_translater, did you mean "dakit_translators"?'
    for command in (["check", *toy], ["list", "stage"], ["plugins"], ["run", *toy, "--variant", "s2t"]):
        code, _, err = dakit(*command)
        assert code == 0
        assert err.count(f"dakit: warning: plugin not loaded: {text}\n") == 1
    found = {row["plugin"]: row for row in json.loads(dakit("plugins", "--json")[1])}
    assert found["typo"] == {"distribution": "dakit-test-typo", "plugin": "typo", "version": "3", "offers": "",
                             "state": f"failed: {text.split('failed: ')[1]}"}  # fmt: skip
    toy[0].write_text(toy_module.RECIPE.replace("{use: toy_translator}", "{use: typo_translator}"))
    code, _, err = dakit("run", *toy)
    assert code == 2
    assert f"(plugin not loaded: {text})" in err


def test_of_two_plugins_with_one_name_a_recipe_picks_one(dakit, toy, tmp_path):
    (tmp_path / "mine.py").write_text(toy[2].read_text())
    both = [*toy, "--plugin", tmp_path / "mine.py"]
    text = toy_module.RECIPE
    for name in ("toy_images", "toy_train", "toy_translate,", "toy_classifier"):
        text = text.replace(name, f"{toy[2]}/{name}")
    toy[0].write_text(text)
    code, _, err = dakit("check", *both)
    assert code == 2
    one, two = f'"{toy[2]}/toy_translator"', f'"{tmp_path / "mine.py"}/toy_translator"'
    assert f'2 plugins offer the translator "toy_translator": say which, {" or ".join(sorted((one, two)))}' in err
    assert "components.generator.use" in err
    toy[0].write_text(text.replace("toy_translator", f"{tmp_path / 'mine.py'}/toy_translator"))
    code, _, err = dakit("check", *both)
    assert 'the stage "toy_translate": say which' in err
    text = text.replace("do: toy_translate\n", f"do: {toy[2]}/toy_translate\n")
    toy[0].write_text(text.replace("toy_translator", f"{tmp_path / 'mine.py'}/toy_translator"))
    assert dakit("check", *both)[0] == 0
    assert dakit("run", *both, "--variant", "cycleat", "--fold", "0")[0] == 0
    assert "nothing to do" in dakit("run", *both, "--variant", "cycleat", "--fold", "0")[1]


def test_recipes_are_listed_with_what_they_are(dakit):
    _, out, _ = dakit("recipes")
    for name, path in shipped_recipes().items():
        assert name in out
        assert path.read_text().splitlines()[0].lstrip("# ")[:60] in out


def test_a_recipe_is_printed_and_copied_as_it_is_but_for_the_place_of_the_schema(dakit, tmp_path):
    text = shipped_recipes()["cycleat_sfew"].read_text()
    assert dakit("recipes", "cycleat_sfew") == (0, text, "")
    assert dakit("recipes", "cycleat_sfew", "--copy", "my.yaml")[:2] == (0, "my.yaml\n")
    (theirs, mine), *others = [
        lines
        for lines in zip(text.splitlines(), (tmp_path / "my.yaml").read_text().splitlines(), strict=True)
        if lines[0] != lines[1]
    ]
    assert not others
    start, place = mine.split("=")
    assert theirs == f"{start}=schema.json"
    assert json.loads((tmp_path / place).read_text())["title"]
    (tmp_path / "folder").mkdir()
    assert dakit("recipes", "cycleat_sfew", "--copy", "folder")[0] == 0
    assert (tmp_path / "folder" / "cycleat_sfew.yaml").read_text() == (tmp_path / "my.yaml").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed(dakit, registry, kind):
    code, out, _ = dakit("list", kind, "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == [entry.name for entry in registry.entries(kind)]
    assert all(row["what"] and row["from"] == "dakit" for row in json.loads(out))


def test_everything_is_listed(dakit, toys):
    _, out, _ = dakit("list", "--plugin", toys)
    for name in (
        "resnet_generator",
        "patchgan",
        "tsne_knn",
        "train_translator",
        "toy_classifier",
        "attention_transfer",
    ):
        assert name in out


def components():
    registry = Registry(find_plugins())
    return [(entry.kind, entry.name) for kind in KINDS for entry in registry.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), components())
def test_every_component_is_shown_with_all_its_parameters(dakit, registry, kind, name):
    import inspect

    code, out, _ = dakit("show", kind, name)
    assert code == 0
    factory = registry.find(kind, name).factory
    assert out.startswith(f"{kind} {name}, version ")
    assert inspect.getdoc(factory).splitlines()[0] in out
    rows = {line.split()[0] for line in out.splitlines() if line.strip()}
    assert set(list(inspect.signature(factory).parameters)[KINDS[kind].given :]) <= rows
    if kind == "stage":
        inputs = set(inspect.signature(factory.run).parameters) - {"self", "ctx"}
        assert inputs <= rows
        assert "output" in rows


def test_what_is_within_a_mapping_is_shown(dakit):
    _, out, _ = dakit("show", "stage", "train_classifier")
    rows = [line.split() for line in out.splitlines()]
    assert ["body_lr", "float", "1.0"] in rows
    assert ["warmup", "float", "0.0"] in rows
    assert "augment: a mapping, Augment" in out
    assert "flip: probability of a left-right flip." in out


# ------------------------------------------------------------------------------------------ to run
def test_run_plan_and_run_again(dakit, toy, tmp_path):
    code, out, err = dakit("plan", *toy, "--variant", "s2t", "--json")
    assert (code, err) == (0, "")
    assert [(row["stage"], row["state"]) for row in json.loads(out)] == [
        ("pretrain", "will run: never made before"),
        ("evaluate", "will run: never made before"),
        ("evaluate", "will run: never made before"),
    ]
    assert not (tmp_path / "runs").exists()

    code, out, err = dakit("run", *toy, "--variant", "s2t", "--set", "engine.device=cpu")
    assert code == 0
    assert "made 3 stage results, reused 0" in out
    assert "A toy table" in out
    assert "paper" in out
    assert "15.00" in out  # from the recipe's published numbers
    assert "rows not run: fine_tune, attention, att_gen, cycleat" in flat(out)
    assert (tmp_path / "runs" / "toy" / "table.md").is_file()

    code, out, _ = dakit("run", *toy, "--variant", "s2t")
    assert code == 0
    assert "nothing to do: all 3 stage results were already made" in out

    code, out, err = dakit("run", *toy, "--variant", "s2t", "--variant", "fine_tune", "--json")
    results = json.loads(out)
    assert list(results["rows"]) == ["s2t", "fine_tune"]
    assert (results["made"], results["reused"]) == (4, 3)
    assert results["rows"]["s2t"]["published"] == {"dark": 10, "bright": 20, "Ave.": 15}
    assert "adapt" in err  # progress goes where it does not disturb

    _, out, _ = dakit("plan", *toy, "--variant", "fine_tune", "--set", "adapt.steps=3")
    assert "cached" in out
    assert "will run: steps: 1 -> 3" in out


def test_a_profile_has_its_own_folder(dakit, toy, tmp_path):
    assert dakit("run", *toy, "--variant", "s2t", "--fold", "0", "--profile", "big")[0] == 0
    assert (tmp_path / "runs" / "toy-big" / "results.json").is_file()
    assert dakit("run", *toy, "--until", "pretrain", "--out", "here", "--variant", "s2t")[0] == 0
    found = [path.name for path in (tmp_path / "here" / "store").iterdir() if path.is_dir()]
    assert [name.split("-")[0] for name in found] == ["pretrain"]


def test_check_looks_at_every_profile(dakit, toy, tmp_path):
    code, out, _ = dakit("check", *toy)
    assert code == 0
    assert "rows: s2t, fine_tune, attention, att_gen, cycleat; profiles: big" in flat(out)
    assert "none is needed from disk" in out
    toy[0].write_text(toy_module.RECIPE.replace("data.size: 6", "data.size: six"))
    code, _, err = dakit("check", *toy)
    assert code == 2
    assert "(profile big)" in err
    assert "data.size" in err


# ---------------------------------------------------------------------------------------- mistakes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["run", "cycleat_swef"], 'did you mean "cycleat_sfew"'),
        (["run", "."], ".: there is no such file"),
        (["run", "TOY", "--profile", "bigg"], 'no profile "bigg", did you mean "big"'),
        (["run", "TOY", "--variant", "s2s"], 'no variant "s2s", did you mean "s2t"'),
        (["run", "TOY", "--variant", "s2t", "--all-variants"], "exclude each other"),
        (["run", "TOY", "--set", "adapt.stepps=1"], 'did you mean "steps"'),
        (["run", "TOY", "--set", "adapt"], "expected KEY=VALUE"),
        (["run", "TOY", "--until", "adopt", "--variant", "cycleat"], 'did you mean "adapt"'),
        (
            ["run", "TOY", "--observe", "terminol"],
            '--observe terminol: observers.0.use: no observer is called "terminol", did',
        ),
        (["run", "TOY", "--fold", "2"], "the folds 0 to 1"),
        (["run", "TOY", "--fresh", "adopt"], 'did you mean "adapt"'),
        (["run", "TOY", "--out", "toy.yaml"], "toy.yaml: cannot be written: Not a directory"),
        (["run", "TOY", "--plugin", "gone.py"], "--plugin gone.py: there is no such file"),
        (["plan", "TOY", "--until", "adopt", "--variant", "cycleat"], 'did you mean "adapt"'),
        (["check", "TOY", "--profile", "bigg"], 'did you mean "big"'),
        (["list", "translater"], 'there is no kind "translater", did you mean "translator"'),
        (["show", "translater", "x"], 'there is no kind "translater", did you mean "translator"'),
        (["show", "selector", "tsne_knm"], 'did you mean "tsne_knn"'),
        (["recipes", "cycleat_swef"], 'did you mean "cycleat_sfew"'),
        (["recipes", "--copy", "x.yaml"], "--copy needs the NAME of a shipped recipe"),
        (["recipes", "cycleat_sfew", "--copy", "toy.yaml"], "toy.yaml: is there already; nothing was written"),
        (["recipes", "cycleat_sfew", "--copy", "no/such/x.yaml"], "cannot be written"),
        (["run"], "Missing argument"),
        (["rnu"], "No such command"),
        (["run", "TOY", "--fold", "one"], "Invalid value for '--fold'"),
    ],
)
def test_a_mistake_ends_in_one_message_and_code_2(dakit, toy, arguments, message, tmp_path):
    expanded = [part for a in arguments for part in (toy if a == "TOY" else [a])]
    before = toy[0].read_text()
    code, out, err = dakit(*expanded)
    assert code == 2
    assert message in flat(err.replace("│", ""))
    assert "Traceback" not in err + out
    assert toy[0].read_text() == before
    assert not (tmp_path / "runs").exists()


def test_all_faults_of_a_recipe_are_printed(dakit, toy):
    text = toy_module.RECIPE.replace("scale: 0.5", "scalle: 0.5").replace("extra: select.images", "extra: select.image")
    toy[0].write_text(text)
    code, _, err = dakit("check", *toy)
    assert code == 2
    assert len(err.strip().splitlines()) == 2
    assert err.startswith("dakit: ")
