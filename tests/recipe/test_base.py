from __future__ import annotations

import json
from pathlib import Path

import pytest

import toys as toy_module
from dakit.errors import DakitError, RecipeError
from dakit.files import shipped_recipes
from dakit.recipe.base import based, read_recipe
from dakit.recipe.load import load_recipe
from dakit.recipe.yaml_lines import read_yaml


@pytest.fixture
def lay(tmp_path, known):
    """Load a recipe that is laid over the toy one, or over what ``files`` hold."""

    def read(text: str, *, base: str = "toy.yaml", files: dict[str, str] | None = None, **options):
        for name, content in {"toy.yaml": toy_module.RECIPE, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        (tmp_path / "mine.yaml").write_text(f"recipe: mine\nbase: {base}\n{text}")
        return load_recipe(tmp_path / "mine.yaml", registry=known, **options)

    return read


@pytest.fixture
def faults(lay, tmp_path):
    """Its problems, without the name of its folder."""

    def find(text: str, **options) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            lay(text, **options)
        return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return find


def toy(tmp_path, known, **options):
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
    return load_recipe(tmp_path / "toy.yaml", registry=known, **options)


def test_what_is_not_said_is_the_base_s_but_for_what_belongs_to_one_table(lay, tmp_path, known):
    mine, base = lay(""), toy(tmp_path, known)
    assert mine.plans == base.plans
    assert (mine.rows, mine.seeds, mine.profiles, mine.baseline) == (base.rows, base.seeds, base.profiles, "fine_tune")
    assert (mine.name, mine.title, mine.published) == ("mine", "mine", {})
    assert (base.title, base.published) != (mine.title, mine.published)
    assert mine.file == str(tmp_path / "mine.yaml")


def test_the_recipe_that_is_recorded_stands_alone(lay, tmp_path, known):
    mine = lay("stages: {adapt: {steps: 3}}\nengine: {precision: bf16}")
    assert "base" not in mine.document
    assert mine.document["stages"]["adapt"]["steps"] == 3
    (tmp_path / "again.yaml").write_text(json.dumps(mine.document))  # JSON is YAML
    again = load_recipe(tmp_path / "again.yaml", registry=known)
    assert (again.plans, again.engine, again.rows) == (mine.plans, mine.engine, mine.rows)


def test_a_part_of_an_entry_is_laid_over_it_and_a_whole_one_replaces_it(lay, tmp_path, known):
    text = """\
data:
  size: 6
  source: {people: 7, split: {holdout: 0.4}}
  target: {use: toy_images, split: {folds: predefined}}
components:
  shallow: {scale: 0.25}
  deep: {use: toy_classifier, scale: 2.0}
stages:
  adapt: {steps: 5, extra: null}
"""
    same = ["data.size=6", "data.source.people=7", "data.source.split={holdout: 0.4}",
            "data.target={use: toy_images, split: {folds: predefined}}", "shallow.scale=0.25", "deep.scale=2.0",
            "adapt.steps=5", "adapt.extra=null"]  # fmt: skip
    mine, base = lay(text), toy(tmp_path, known, overrides=same)
    assert mine.plan("cycleat") == base.plan("cycleat")
    assert mine.plan("cycleat") != toy(tmp_path, known).plan("cycleat")
    assert mine.plan("cycleat").data["target"].spec.params["shift"] == 0  # not the base's 20


def test_engine_rows_seeds_and_method_are_set(lay):
    below = toy_module.RECIPE + "engine: {checkpoint_minutes: 3, precision: fp32}\n"
    mine = lay(
        "method: m\nrows: [m, s2t]\nseeds: [4, 5]\nengine: {precision: bf16}\nbaseline: s2t", files={"toy.yaml": below}
    )
    assert (mine.rows, mine.seeds, mine.baseline) == (("m", "s2t"), (4, 5), "s2t")
    assert (mine.engine.precision, mine.engine.checkpoint_minutes) == ("bf16", 3)


def test_variants_are_whole_and_profiles_are_joined(lay):
    mine = lay("variants:\n  fine_tune: {adapt.extra: null}\n  new: {adapt.steps: 2}\n"
               "profiles:\n  big: {adapt.steps: 4}\n  small: {data.size: 5}", profile="big")  # fmt: skip
    assert set(mine.plan("fine_tune").stages[-2].inputs) == {
        "train",
        "init",
        "teacher",
    }  # the base took the teacher away
    assert mine.plan("new").stages[-2].spec.params["steps"] == 2
    assert mine.profiles == ("big", "small")
    assert mine.plan("cycleat").data["source"].size == 6  # the base's
    assert mine.plan("cycleat").stages[-2].spec.params["steps"] == 4


def test_null_takes_away(lay):
    mine = lay("rows: [cycleat, fine_tune]\nvariants: {s2t: null, attention: null}\nprofiles: {big: null}\n"
               "data: {classes: null}")  # fmt: skip
    assert list(mine.plans) == ["cycleat", "fine_tune", "att_gen"]
    assert mine.profiles == ()


@pytest.mark.parametrize(
    ("stages", "order"),
    [
        ("{more: {do: toy_peek}}", ["select", "adapt", "more", "evaluate"]),
        ("{more: {do: toy_peek}, adapt: {steps: 2}}", ["select", "more", "adapt", "evaluate"]),
        ("{adapt: {steps: 2}, more: {do: toy_peek}}", ["select", "adapt", "more", "evaluate"]),
        (
            "{a: {do: toy_peek}, select: null, b: {do: toy_peek}, adapt: {extra: null}}",
            ["synthesise", "a", "b", "adapt", "evaluate"],
        ),
        ("{a: {do: toy_peek}, evaluate: null}", ["select", "a", "adapt"]),
    ],
)
def test_a_new_stage_stands_above_the_next_that_is_named(tmp_path, stages, order):
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
    path = tmp_path / "mine.yaml"
    path.write_text(f"recipe: mine\nbase: toy.yaml\nstages: {stages}\n")
    assert list(based(read_recipe(path), (path,)).data["stages"])[-len(order) :] == order


def test_a_base_of_a_base_and_from_another_folder(lay):
    files = {"below/middle.yaml": "recipe: middle\nbase: ../toy.yaml\nstages: {adapt: {steps: 3}}\ntitle: Middle\n"}
    mine = lay("stages: {pretrain: {steps: 2}}", base="below/middle.yaml", files=files)
    steps = {stage.name: stage.spec.params.get("steps") for stage in mine.plan("cycleat").stages}
    assert (steps["adapt"], steps["pretrain"], mine.title) == (3, 2, "mine")


def test_a_shipped_recipe_is_a_base_by_its_name_wherever_one_is(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("recipe: mine\nbase: cycleat_sfew\nstages: {fine_tune: {steps: 7}}\n")
    monkeypatch.chdir(tmp_path)
    mine = load_recipe("mine.yaml", profile="demo")
    assert mine.plans.keys() == load_recipe("cycleat_sfew").plans.keys()
    (adapt,) = [stage for stage in load_recipe("mine.yaml").plan("cycleat").stages if stage.name == "adapt"]
    assert adapt.spec.params["steps"] == 7


@pytest.mark.parametrize("name", ["cycleat_digits", "cycleat_emotionet"])
def test_a_copy_of_a_shipped_recipe_means_the_same(tmp_path, name):
    (tmp_path / "copy.yaml").write_text(shipped_recipes()[name].read_text())
    assert load_recipe(tmp_path / "copy.yaml").plans == load_recipe(name).plans


# ---------------------------------------------------------------------------------------------- faults
def line_of(part: str) -> int:
    (number,) = [n for n, line in enumerate(toy_module.RECIPE.splitlines(), 1) if part in line]
    return number


def test_a_fault_is_told_with_the_line_of_the_file_in_which_it_stands(faults):
    wrong = toy_module.RECIPE.replace("scale: 0.5", "scale: half")
    assert faults("stages:\n  adapt:\n    steps: 0\n", files={"toy.yaml": wrong}) == [
        f"toy.yaml:{line_of('scale: 0.5')}: components.shallow.scale: Input should be a valid number, not 'half'",
        "mine.yaml:5: stages.adapt.steps: Input should be greater than 0, not 0",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("datta: {}", 'mine.yaml:3: datta: a recipe has no such key, did you mean "data"?'),
        ("data: 3", "mine.yaml:3: data: must be a mapping, not 3"),
        ("stages: {adapt: 3}", "mine.yaml:3: stages.adapt: must be a mapping, not 3"),
        ("stages: {adapt: {do: toy_trian}}", 'mine.yaml:3: stages.adapt.do: no stage is called "toy_trian", did'),
        ("stages: {adopt: {steps: 3}}", "mine.yaml:3: stages.adopt: needs `do:` with the name of a stage"),
        ("variants: {s2s: null}", 'mine.yaml:3: variants.s2s: is null, but the base has none, did you mean "s2t"?'),
        ("components: {deep: {scalle: 3}}", "mine.yaml:3: components.deep.scalle: classifier"),
        ("variants: {s2t: {evaluate.model: pretrain.modell}}", "mine.yaml:3: stages.evaluate.model: stage pretrain"),
    ],
)
def test_a_fault_in_what_is_laid_over(faults, text, problem):
    found = faults(text)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("toi.yaml", 'mine.yaml:2: base: toi.yaml: there is no such file, did you mean "toy.yaml"?'),
        ("cycleat_swef", 'mine.yaml:2: base: there is no shipped recipe "cycleat_swef", did you mean "cycleat_sfew"?'),
        ("toy", 'mine.yaml:2: base: there is no shipped recipe "toy"'),
        ("3", "mine.yaml:2: base: must be a text, not 3"),
        ("mine.yaml", "mine.yaml:2: base: it builds on itself: mine.yaml -> mine.yaml"),
        ("other.yaml", "other.yaml:2: base: it builds on itself: mine.yaml -> other.yaml -> mine.yaml"),
        ("list.yaml", "list.yaml: a recipe is a mapping with recipe, title, method"),
        ("part.yaml", "part.yaml: method: is missing"),
    ],
)
def test_a_base_that_is_none(faults, base, problem):
    files = {"other.yaml": "recipe: other\nbase: mine.yaml\n", "list.yaml": "- a\n", "part.yaml": "recipe: part\n"}
    (found, *_) = faults("", base=base, files=files)
    assert found.startswith(problem)


def test_a_base_that_cannot_be_read(lay, tmp_path):
    (tmp_path / "latin.yaml").write_bytes("title: é".encode("latin-1"))
    with pytest.raises(DakitError, match=r"latin\.yaml: not UTF-8 text"):
        lay("", base="latin.yaml")


def test_the_shipped_recipes_that_build_on_another_say_only_what_differs():
    """A part that says what the base says anyway says it twice."""
    base = read_yaml(shipped_recipes()["cycleat_sfew"].read_text(), "")[0]
    for name in ("cycleat_emotionet", "cycleat_digits"):
        above = read_yaml(shipped_recipes()[name].read_text(), "")[0]
        assert above["base"] == "cycleat_sfew"
        assert Path(shipped_recipes()["cycleat_sfew"]).parent == Path(shipped_recipes()[name]).parent
        for section in ("data", "components", "stages", "variants"):
            for entry, said in above.get(section, {}).items():
                known = base[section].get(entry)
                assert said != known
                if (
                    isinstance(said, dict)
                    and isinstance(known, dict)
                    and not said.keys() & {"use", "do", "like", "adapt"}
                ):
                    assert not [part for part, value in said.items() if part in known and known[part] == value], entry
