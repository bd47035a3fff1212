from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toys as toy_module
from dakit.errors import DakitError, RecipeError
from dakit.files import shipped_recipes
from dakit.pipeline.preflight import check_data
from dakit.recipe.base import find_recipe
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import Recipe, Reference

RECIPES = Path(__file__).parents[2] / "recipes"
OLD = Path(__file__).parent / "old"
"""The shipped recipes as 0.3.0 had them, before rows said what they add."""


@pytest.fixture
def load(tmp_path, known):
    """Load the toy recipe with parts of its text replaced."""

    def read(*replacements: tuple[str, str], profile=None, overrides=()) -> Recipe:
        text = toy_module.RECIPE
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / "toy.yaml").write_text(text)
        return load_recipe(tmp_path / "toy.yaml", profile=profile, overrides=overrides, registry=known)

    return read


def line_of(part: str, text: str = toy_module.RECIPE) -> int:
    """The number of the only line that holds ``part``."""
    (number,) = [n for n, line in enumerate(text.splitlines(), 1) if part in line]
    return number


@pytest.fixture
def faults(load, tmp_path):
    """The problems of a changed toy recipe, without the name of its folder."""

    def find(*replacements, **options) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(*replacements, **options)
        return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return find


# ------------------------------------------------------------------------------------ what is good
def test_a_recipe_is_read(load, tmp_path):
    recipe = load()
    assert (recipe.name, recipe.title, recipe.profile, recipe.profiles) == ("toy", "A toy table", "", ("big",))
    assert recipe.file == str(tmp_path / "toy.yaml")
    assert recipe.rows == ("s2t", "fine_tune", "attention", "att_gen", "cycleat")
    assert set(recipe.plans) == set(recipe.rows)
    assert recipe.seeds == (0,)
    assert recipe.published == {"s2t": {"dark": 10, "bright": 20, "Ave.": 15}}
    plan = recipe.plan("cycleat")
    adapt = plan.stages[-2]
    assert adapt.name == "adapt"
    assert adapt.inputs == {
        "train": Reference("target", "train"),
        "extra": Reference("select", "images"),
        "teacher": Reference("stage_2", "classifier"),
        "init": Reference("pretrain", "model"),
    }
    assert adapt.spec.params["steps"] == 1  # its default
    assert adapt.spec.params["classifier"].params == {"scale": 0.5}
    (stage_2,) = [stage for stage in plan.stages if stage.name == "stage_2"]
    assert stage_2.inputs["init"] == Reference("stage_1", "")  # the whole of it
    assert plan.data["auxiliary"].unlabelled
    assert plan.data["target"].split.folds == "predefined"
    assert plan.data["source"].size == 4
    assert recipe.baseline == "fine_tune"  # the row so named


def test_the_baseline_is_named_or_the_fine_tuning_row(load, faults):
    assert load(overrides=["baseline=s2t"]).baseline == "s2t"
    without = load(("  fine_tune:", "  plain:"), ("rows: [s2t, fine_tune,", "rows: [s2t, plain,"))
    assert without.baseline is None
    (problem,) = faults(("method: cycleat\n", "method: cycleat\nbaseline: finetune\n"))
    assert problem == 'toy.yaml:4: baseline: there is no variant "finetune", did you mean "fine_tune"?'


def test_what_became_of_the_test_images_is_read_by_no_stage(faults):
    (problem,) = faults(("variants:\n", "  peek: {do: toy_peek, images: evaluate.evaluation}\nvariants:\n"))
    assert "evaluate.evaluation holds what became of the test images: no stage may read it" in problem


def test_a_variant_changes_its_own_row_only(load):
    recipe = load()
    models = {row: str(recipe.plan(row).stages[-1].inputs["model"]) for row in recipe.rows}
    assert models == {"s2t": "pretrain.model"} | dict.fromkeys(recipe.rows[1:], "adapt.model")
    fine_tune = recipe.plan("fine_tune").stages[1]
    assert set(fine_tune.inputs) == {"train", "init"}


def test_components_may_stand_in_the_stage(load):
    recipe = load(("    classifier: shallow\n", "    classifier: {use: toy_classifier, scale: 0.5}\n"))
    assert recipe.plan("cycleat") == load().plan("cycleat")


def test_a_distribution_may_be_named(load, toys):
    recipe = load(("deep: {use: toy_classifier}", f"deep: {{use: {toys}/toy_classifier}}"))
    assert recipe.plan("s2t").stages[0].spec.params["classifier"].build(2).head.out_features == 2


# ----------------------------------------------------------------------------- profiles and overrides
def test_a_profile_is_laid_over_the_recipe(load):
    recipe = load(profile="big")
    assert recipe.profile == "big"
    assert recipe.plan("cycleat").data["source"].size == 6
    assert recipe.plan("attention").stages[1].spec.params["steps"] == 9
    assert recipe.document["stages"]["adapt"]["steps"] == 9


def test_set_is_laid_over_profiles(load):
    recipe = load(profile="big", overrides=["adapt.steps=11"])
    assert {p.stages[-2].spec.params["steps"] for r, p in recipe.plans.items() if r != "s2t"} == {11}
    assert recipe.notes == ()


NAMED = "what a variant names stays as it is"


def test_what_a_variant_names_stays_and_that_is_told(load):
    def inputs(recipe, stage):
        return {
            row: {name: str(reference) for name, reference in one.inputs.items()}
            for row, plan in recipe.plans.items()
            for one in plan.stages
            if one.name == stage
        }

    plain, recipe = load(), load(overrides=["adapt.extra=synthesise.images"])
    was, found = inputs(plain, "adapt"), inputs(recipe, "adapt")
    for row in ("cycleat", "att_gen"):
        assert found[row] == was[row] | {"extra": "synthesise.images"}
    for row in ("fine_tune", "attention"):
        assert found[row] == was[row]
    assert recipe.notes == (f"--set adapt.extra: not for fine_tune, attention: {NAMED}",)
    recipe = load(overrides=["evaluate.model=adapt.model"])
    assert inputs(recipe, "evaluate") == inputs(plain, "evaluate")
    assert recipe.notes == (f"--set evaluate.model: not for s2t: {NAMED}",)
    recipe = load(overrides=["adapt.teacher=pretrain.model"])  # as two of the variants say
    assert {row: its.get("teacher") for row, its in inputs(recipe, "adapt").items()} == {
        "fine_tune": None, "attention": "pretrain.model", "att_gen": "pretrain.model", "cycleat": "pretrain.model"
    }  # fmt: skip
    assert recipe.notes == (f"--set adapt.teacher: not for fine_tune: {NAMED}",)


def test_a_part_of_what_a_variant_names_stays_as_well(load):
    small = ("  s2t: {evaluate.model: pretrain.model}",
             "  s2t: {evaluate.model: pretrain.model}\n"
             "  small: {components.shallow: {use: toy_classifier, scale: 0.1}, data.source.people: 4}")  # fmt: skip
    other = "data.source={use: toy_images, people: 7, split: {holdout: 0.4}}"
    recipe = load(small, overrides=["shallow.scale=0.9", other])
    scales = {
        row: recipe.plan(row).stages[-2].spec.params["classifier"].params["scale"] for row in ("small", "cycleat")
    }
    assert scales == {"small": 0.1, "cycleat": 0.9}
    sources = {row: recipe.plan(row).data["source"] for row in ("small", "cycleat")}
    assert {row: (data.spec.params["people"], data.split.holdout) for row, data in sources.items()} == {
        "small": (4, 0.4), "cycleat": (7, 0.4)
    }  # fmt: skip
    assert recipe.notes == tuple(f"--set {key}: not for small: {NAMED}" for key in ("shallow.scale", "data.source"))


@pytest.mark.parametrize("file", [OLD / "cycleat_digits.yaml", RECIPES / "cycleat_digits.yaml"])
def test_a_parameter_is_left_off_in_rows_whose_variant_took_away_what_it_needs(file):
    recipe = load_recipe(file, overrides=["adapt.extra_share=0.25"])
    shares = {
        row: stage.spec.params["extra_share"]
        for row, plan in recipe.plans.items()
        for stage in plan.stages
        if stage.name == "adapt"
    }
    without = ["s2t_fine_tune", "s2t_attention", "target_only", "lp_ft"]
    named = ["s_t", "cycleat_all"]
    assert {row for row, share in shares.items() if share is None} == set(without)
    assert {row for row, share in shares.items() if share == 0.5} == set(named)
    assert {row for row, share in shares.items() if share == 0.25} == {"s2t_att_gen", "cycleat", "cycleat_distinct"}
    if file.parent == OLD:
        assert recipe.notes == (
            f"--set adapt.extra_share: not for {', '.join(without)}: `extra_share` needs the input `extra`",
            f"--set adapt.extra_share: not for {', '.join(named)}: {NAMED}",
        )
    else:  # its `adapt` says `extra_share: null`, which those rows leave out
        rows = [row for row in recipe.plans if row in (*without, *named)]
        assert recipe.notes == (f"--set adapt.extra_share: not for {', '.join(rows)}: {NAMED}",)
    with pytest.raises(RecipeError, match="leaves one side empty"):  # a fault of the method's own row is one
        load_recipe(file, overrides=["adapt.extra_share=0.001"])


def test_one_row_alone(load):
    recipe = load(
        overrides=[
            f"{row}adapt.steps={n}" for row, n in (("fine_tune:", 9), ("fine_tune:", 8), ("cycleat:", 7), ("", 6))
        ]
    )
    steps = {r: p.stages[-2].spec.params["steps"] for r, p in recipe.plans.items() if r != "s2t"}
    assert steps == {"fine_tune": 8, "attention": 6, "att_gen": 6, "cycleat": 7}
    assert recipe.document["variants"]["fine_tune"]["adapt.steps"] == 8
    assert recipe.document["variants"]["cycleat"] == {"adapt.steps": 7}
    assert recipe.document["stages"]["adapt"]["steps"] == 6
    share = load_recipe("cycleat_digits", overrides=["s_t:adapt.extra_share=0.25"]).plan("s_t")
    assert [s.spec.params["extra_share"] for s in share.stages if s.name == "adapt"] == [0.25]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("s2t:evaluate.model=adapt.model", "s2t is the row with evaluate.model: pretrain.model; what differs there is "
         "another variant, with its own name"),
        ("fine_tune:adapt.extra=select.images", "fine_tune is the row with adapt.extra: null; what"),
        ("fine_tune:stages.adapt={do: toy_train}", "fine_tune is the row with adapt.extra: null; what"),
        ("fine_tun:adapt.steps=3", 'there is no variant "fine_tun", did you mean "fine_tune"?'),
        ("fine_tune:adapt.stepps=3", 'stages.adapt.stepps: stage "toy_train" has no such parameter'),
        ("fine_tune:adept.steps=3", 'adept.steps: nothing is called "adept", did you mean "adapt"?'),
        ("fine_tune:seeds=[3]", "variants.fine_tune.seeds: a variant changes data, components and stages only"),
        ("variants.s2t={evaluate.model: adapt.model}", "variants.s2t: a row means what the recipe says"),
        ("variants.s2t.evaluate.model=adapt.model", "variants.s2t: a row means what the recipe says"),
        ("variants={s2t: {}}", "variants.s2t: a row means what the recipe says"),
    ],
)  # fmt: skip
def test_no_override_makes_another_row_of_the_same_name(faults, override, problem):
    found = faults(overrides=[override])
    assert any(line.startswith(("--set ", "toy.yaml:37")) and problem in line for line in found), found


@pytest.mark.parametrize(
    ("override", "get", "expected"),
    [
        ("title=[A", lambda r: r.title, None),
        ('title="A: b"', lambda r: r.title, "A: b"),
        ("seeds=[3, 4]", lambda r: r.seeds, (3, 4)),
        ("rows=[s2t]", lambda r: r.rows, ("s2t",)),
        ("engine.precision=bf16", lambda r: r.engine.precision, "bf16"),
        ("engine={precision: bf16}", lambda r: r.engine.precision, "bf16"),
        ("components.shallow.scale=2e-4", lambda r: r.plan("cycleat").stages[-2].spec.params["classifier"].params,
         {"scale": 2e-4}),
        ("shallow={use: toy_classifier}", lambda r: r.plan("cycleat").stages[-2].spec.params["classifier"].params,
         {"scale": 1.0}),
        ("target.people=8", lambda r: r.plan("s2t").data["target"].spec.params["people"], 8),
        ("method=other", lambda r: set(r.plans) - {"other"}, {"s2t", "fine_tune", "attention", "att_gen"}),
    ],
)  # fmt: skip
def test_values_are_yaml(load, override, get, expected):
    if expected is None:
        with pytest.raises(RecipeError, match=r"--set title:1: not valid YAML"):
            load(overrides=[override])
    else:
        extra = ["rows=[other]"] if override.startswith("method") else []
        assert get(load(overrides=[override, *extra])) == expected


@pytest.mark.parametrize("text", ["adapt.steps", "=3", "  = 3", ":adapt.steps=3", "s2t:=3"])
def test_an_override_needs_a_key_and_a_value(load, text):
    with pytest.raises(DakitError, match=r'expected KEY=VALUE, such as "adapt.steps=500"'):
        load(overrides=[text])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("adopt.steps=3", '--set adopt.steps: adopt.steps: nothing is called "adopt", did you mean "adapt"?'),
        ("adapt.stepps=3", '--set adapt.stepps: stages.adapt.stepps: stage "toy_train" has no such parameter, '
         'did you mean "steps"?'),
        ("adapt.steps=many", "--set adapt.steps: stages.adapt.steps: Input should be a valid integer, not 'many'"),
        ("adapt.steps.more=3", "--set adapt.steps.more: stages.adapt.steps: Input should be a valid integer"),
        ("adapt.train.more=3", "--set adapt.train.more: adapt.train.more: stages.adapt.train has no parts to set"),
        ("seeds=3", "--set seeds: seeds: must be a list, not 3"),
        ("seeds=[a]", "--set seeds: seeds: must be a list of different whole numbers from 0 on, not ['a']"),
        ("rows=cycleat", "--set rows: rows: must be a list, not 'cycleat'"),
        ("rows=[{a: b}]", "--set rows: rows: must be a list of names, not [{'a': 'b'}]"),
        ("rows=[cyclat]", '--set rows: rows: there is no variant "cyclat", did you mean "cycleat"?'),
        ("engine=3", "--set engine: engine: must be a mapping, not 3"),
        ("engine.precison=bf16", '--set engine.precison: engine.precison: engine has no such parameter, '
         'did you mean "precision"?'),
        ("engine.precision=fp8", "--set engine.precision: engine.precision: Input should be 'fp32', 'bf16' or 'fp16'"),
        ("stages.adapt=3", "--set stages.adapt: stages.adapt: must be a mapping, not 3"),
        ("data.target=3", "--set data.target: data.target: must be a mapping, not 3"),
        ("components.deep=[1]", "--set components.deep: components.deep: must be a mapping, not [1]"),
        ("stages={}", "--set stages: stages: there is none"),
        ("method=../../up", "--set method: method: a name is letters, digits, _ and -, not '../../up'"),
    ],
)  # fmt: skip
def test_an_override_that_does_not_fit_is_named(faults, override, problem):
    found = faults(overrides=[override])
    assert any(line.startswith(problem) for line in found), found


def test_a_name_for_two_things_must_be_made_clear(faults):
    found = faults(("  deep: {use: toy_classifier}", "  deep: {use: toy_classifier}\n  source: {use: toy_classifier}"),
                   overrides=["source.people=3"])  # fmt: skip
    assert found == [
        "--set source.people: source.people: stands for two things; write data.source.people or "
        "components.source.people"
    ]


def test_an_unknown_profile(load):
    with pytest.raises(DakitError, match=r'toy\.yaml: there is no profile "bigg", did you mean "big"\?'):
        load(profile="bigg")


def test_faults_in_variants_and_profiles_stand_where_they_were_written(faults):
    found = faults(
        ("  s2t: {evaluate.model: pretrain.model}", "  s2t: {evaluate.model: pretrain.modell}"),
        ("  big: {data.size: 6, adapt.steps: 9}", "  big:\n    data.size: six\n    adapt.steps: 0"),
        profile="big",
    )
    big = line_of("big: {data.size")
    s2t = line_of("s2t: {evaluate.model")
    assert found == [
        f"toy.yaml:{big + 1}: data.size: must be the height and width of the images in pixels, not 'six'",
        f"toy.yaml:{big + 2}: stages.adapt.steps: Input should be greater than 0, not 0",
        f'toy.yaml:{s2t}: stages.evaluate.model: stage pretrain makes no "modell", did you mean "model"?',
    ]


def test_a_mapping_laid_over_has_the_lines_of_its_own_keys(faults):
    found = faults(("  big: {data.size: 6, adapt.steps: 9}",
                    "  big:\n    data.source:\n      use: toy_images\n      peeple: 5"), profile="big")  # fmt: skip
    big = line_of("big: {data.size")
    assert f'toy.yaml:{big + 3}: data.source.peeple: dataset "toy_images" has no such parameter, ' \
           'did you mean "people"?' in found  # fmt: skip


def test_a_variant_cannot_change_what_belongs_to_the_whole_table(faults):
    n = line_of("s2t: {evaluate.model")
    assert faults(("s2t: {evaluate.model: pretrain.model}", "s2t: {seeds: [1], engine.precision: bf16}")) == [
        f"toy.yaml:{n}: variants.s2t.seeds: a variant changes data, components and stages only",
        f"toy.yaml:{n}: variants.s2t.engine.precision: a variant changes data, components and stages only",
    ]


# ---------------------------------------------------------------------------------- one fault each
PRETRAIN = "pretrain: {do: toy_train, train: source.train, classifier: deep}"
EVALUATE = "evaluate: {do: evaluate, model: adapt.model, test: target.test}"
SOURCE = "source: {use: toy_images, people: 5, split: {holdout: 0.2}}"


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        # the document
        ("title: A toy table", "titel: A toy table", "titel", 'a recipe has no such key, did you mean "title"?'),
        ("title: A toy table", "title: [A]", "title", "must be a text, not ['A']"),
        ("recipe: toy", "recipe: ../../toy", "recipe", "a name is letters, digits, _ and -, not '../../toy'"),
        ("method: cycleat", "method: s2t", "variants.s2t", "is the method itself; a variant needs another name"),
        ("rows: [s2t, fine_tune", "rows: [s2s, fine_tune", "rows", 'there is no variant "s2s", did you mean "s2t"?'),
        ("method: cycleat", "method: cycleat\npictures: [evalute]", "pictures",
         'there is no stage "evalute", did you mean "evaluate"?'),
        ("method: cycleat", "method: cycleat\nseeds: [0, 0]", "seeds",
         "must be a list of different whole numbers from 0 on, not [0, 0]"),
        ("method: cycleat", "method: cycleat\nseeds: []", "seeds",
         "must be a list of different whole numbers from 0 on, not []"),
        ("method: cycleat", "method: cycleat\nseeds: [-1]", "seeds",
         "must be a list of different whole numbers from 0 on, not [-1]"),
        ("method: cycleat", "method: cycleat\nseeds: [true]", "seeds",
         "must be a list of different whole numbers from 0 on, not [True]"),
        ("method: cycleat", "method: cycleat\nengine: {device: tpu}", "engine.device",
         "Input should be 'auto', 'cpu', 'cuda' or 'mps', not 'tpu'"),
        ("  s2t: {dark: 10, bright", "  s2s: {dark: 10, bright", "published",
         'there is no variant "s2s", did you mean "s2t"?'),
        ("  s2t: {dark: 10, bright", "  s2t: {dark: ten, bright", "published.s2t",
         "must be a mapping from class to percent, not {'dark': 'ten', 'bright': 20, 'Ave.': 15}"),
        # data
        ("  size: 4", "  size: 4.0", "data.size", "must be the height and width of the images in pixels, not 4.0"),
        ("  size: 4", "  size: 4\n  classes: [a]", "data.classes", "must be at least two different names, not ['a']"),
        ("  size: 4", "  size: 4\n  classes: [a, no]", "data.classes", "must be a list of names, not ['a', False]"),
        ("  size: 4", "  size: 4\n  more: 3", "data.more", "must be a mapping, not 3"),
        (SOURCE, "source: {use: toy_image, people: 5, split: {holdout: 0.2}}", "data.source.use",
         'no dataset is called "toy_image", did you mean "toy_images"?'),
        (SOURCE, "source: {people: 5, split: {holdout: 0.2}}", "data.source",
         "needs `use:` with the name of a dataset"),
        (SOURCE, "source: {use: toy_images, peeple: 5, split: {holdout: 0.2}}", "data.source.peeple",
         'dataset "toy_images" has no such parameter, did you mean "people"?'),
        (SOURCE, "source: {use: toy_images, people: five, split: {holdout: 0.2}}", "data.source.people",
         "Input should be a valid integer, not 'five'"),
        (SOURCE, "source: {use: toy_images, size: 5, split: {holdout: 0.2}}", "data.source.size",
         'dataset "toy_images" has no such parameter; there are: names, people, shift'),
        (SOURCE, "source: {use: toy_images, split: 0.2}", "data.source.split",
         "must be a mapping such as {holdout: 0.2}, not 0.2"),
        (SOURCE, "source: {use: toy_images, split: {holdout: 0.2, folds: 2}}", "data.source.split",
         "a split needs exactly one of"),
        (SOURCE, "source: {use: toy_images, split: {holdout: 1.0}}", "data.source.split",
         "holdout: 1.0 leaves a side empty"),
        (SOURCE, "source: {use: toy_images, split: {holdouts: 0.2}}", "data.source.split.holdouts",
         'a split has no such parameter, did you mean "holdout"?'),
        ("unlabelled: true", "unlabelled: 1", "data.auxiliary.unlabelled", "must be true or false, not 1"),
        # components
        ("deep: {use: toy_classifier}", "deep: {use: toy_clasifier}", "components.deep.use",
         'no plugin offers "toy_clasifier", did you mean "toy_classifier"?'),
        ("deep: {use: toy_classifier}", "deep: {scale: 2.0}", "components.deep",
         "needs `use:` with the name of a component"),
        ("deep: {use: toy_classifier}", "deep: {use: [toy_classifier]}", "components.deep",
         "needs `use:` with the name of a component"),
        ("scale: 0.5", "scalle: 0.5", "components.shallow.scalle",
         'classifier "toy_classifier" has no such parameter, did you mean "scale"?'),
        ("scale: 0.5", "scale: .nan", "components.shallow.scale", "Input should be a finite number, not nan"),
        # stages
        (PRETRAIN, PRETRAIN.replace("toy_train", "toy_trian"), "stages.pretrain.do",
         'no stage is called "toy_trian", did you mean "toy_train"?'),
        (PRETRAIN, PRETRAIN.replace("do: toy_train, ", ""), "stages.pretrain",
         "needs `do:` with the name of a stage"),
        (PRETRAIN, PRETRAIN.replace("}", ", stepps: 3}"), "stages.pretrain.stepps",
         'stage "toy_train" has no such parameter, did you mean "steps"?'),
        (PRETRAIN, PRETRAIN.replace("}", ", return: 3}"), "stages.pretrain.return",
         'stage "toy_train" has no such parameter; there are: classifier, extra, init, steps, teacher, train'),
        (PRETRAIN, PRETRAIN.replace("}", ", steps: 0}"), "stages.pretrain.steps",
         "Input should be greater than 0, not 0"),
        (PRETRAIN, PRETRAIN.replace("train: source.train, ", ""), "stages.pretrain",
         'stage "toy_train" needs the input "train"'),
        (PRETRAIN, PRETRAIN.replace("train: source.train, ", "train: null, "), "stages.pretrain",
         'stage "toy_train" needs the input "train"'),
        (PRETRAIN, PRETRAIN.replace(", classifier: deep", ""), "stages.pretrain.classifier",
         'stage "toy_train" needs this parameter'),
        (PRETRAIN, PRETRAIN.replace(": deep", ": deeep"), "stages.pretrain.classifier",
         'there is no component "deeep", did you mean "deep"?'),
        (PRETRAIN, PRETRAIN.replace(": deep", ": [deep]"), "stages.pretrain.classifier",
         "there is no component \"['deep']\""),
        (PRETRAIN, PRETRAIN.replace(": deep", ": generator"), "stages.pretrain.classifier",
         '"generator" is a translator, but a classifier is needed; there are: deep, shallow'),
        (PRETRAIN, PRETRAIN.replace(": deep", ": {use: toy_translator}"), "stages.pretrain.classifier.use",
         'no classifier is called "toy_translator"'),
        # references
        (PRETRAIN, PRETRAIN.replace("source.train", "sorce.train"), "stages.pretrain.train",
         'nothing above is called "sorce", did you mean "source"?'),
        (PRETRAIN, PRETRAIN.replace("source.train", "source.trian"), "stages.pretrain.train",
         'source has no "trian", did you mean "train"?'),
        (PRETRAIN, PRETRAIN.replace("source.train", "source.all"), "stages.pretrain.train",
         'source has no "all" (all of it would include the test images)'),
        (PRETRAIN, PRETRAIN.replace("source.train", "auxiliary.train"), "stages.pretrain.train",
         'auxiliary has no "train"; there are: all'),
        (PRETRAIN, PRETRAIN.replace("source.train", "source"), "stages.pretrain.train", 'source has no ""'),
        (PRETRAIN, PRETRAIN.replace("source.train", "[source.train]"), "stages.pretrain.train",
         "must name what stands above, such as source.train, not ['source.train']"),
        (PRETRAIN, PRETRAIN.replace("source.train", "synthesise.images"), "stages.pretrain.train",
         "synthesise does not stand above; a stage may read only what stands above it"),
        (PRETRAIN, PRETRAIN.replace("}", ", init: pretrain.model}"), "stages.pretrain.init",
         "pretrain does not stand above; a stage may read only what stands above it"),
        ("extra: select.images", "extra: select.image", "stages.adapt.extra",
         'stage select makes no "image", did you mean "images"?'),
        ("extra: select.images", "extra: stage_2.translator", "stages.adapt.extra",
         "stage_2.translator is Trained[Translator], but ImageSet or nothing is needed"),
        ("init: stage_1\n", "init: stage_1.translator\n", "stages.stage_2.init",
         "stage_1.translator is Trained[Translator], but ToyTranslators or nothing is needed"),
        ("init: stage_1\n", "init: pretrain\n", "stages.stage_2.init",
         "pretrain is Model, but ToyTranslators or nothing is needed"),
        ("translator: stage_2.translator", "translator: stage_2.classifier", "stages.synthesise.translator",
         "stage_2.classifier is Trained[Classifier] or nothing, but Trained[Translator] is needed"),
        (EVALUATE, EVALUATE.replace("target.test", "target.train"), "stages.evaluate.test",
         "target.train is ImageSet, but TestSet is needed"),
        # the test images
        (PRETRAIN, PRETRAIN.replace("source.train", "target.test"), "stages.pretrain.train",
         "target.test holds the test images: only an evaluation stage, such as `evaluate`, may read them"),
        (EVALUATE, "look: {do: toy_peek, images: target.test}\n  " + EVALUATE, "stages.look.images",
         "target.test holds the test images: only an evaluation stage, such as `evaluate`, may read them"),
        # what a stage itself checks
        ("generator: generator\n    classifier: deep", "generator: generator", "stages.stage_2",
         "`teacher` needs a `classifier`"),
        (EVALUATE, "more: {do: train_classifier, train: target.train, teacher: pretrain.model, classifier: deep, "
         "steps: 1}\n  " + EVALUATE, "stages.more", "`teacher` and `transfer` go together: set both or neither"),
        (EVALUATE, "more: {do: map_domains, source: source.train, target: target.train, selector: nearest}\n  "
         + EVALUATE, "stages.more", 'selector "random" cannot embed images; tsne_knn can'),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_line_key_and_the_nearest_name(faults, old, new, key, message):
    found = faults((old, new))
    text = toy_module.RECIPE.replace(old, new)
    matching = [line for line in found if f": {key}: {message}" in line]
    assert matching, found
    number = int(matching[0].split(":")[1])
    assert any(part in text.splitlines()[number - 1] for part in key.split(".")[-2:]), matching[0]
    assert len(found) == len(matching), found  # nothing else is blamed


def test_a_missing_teacher_is_not_blamed_twice(faults):
    # The teacher is given, but wrong: `check` must not say that it is not given.
    (found,) = faults((EVALUATE, "more: {do: train_classifier, train: target.train, teacher: pretrain.modl, "
                       "transfer: soft, classifier: deep, steps: 1}\n  " + EVALUATE),
                      ("  nearest:", "  soft: {use: soft_targets}\n  nearest:"))  # fmt: skip
    assert 'stage pretrain makes no "modl"' in found


def test_a_fault_above_is_not_blamed_on_those_below(faults):
    (found,) = faults((PRETRAIN, PRETRAIN.replace("toy_train", "toy_trian")))
    assert "stages.pretrain.do" in found


def test_every_fault_is_told_at_once(faults):
    found = faults(
        ("people: 5, split: {holdout: 0.2}", "peeple: 5, split: {holdout: 2}"),
        ("deep: {use: toy_classifier}", "deep: {use: toy_clasifier}"),
        (PRETRAIN, PRETRAIN.replace("}", ", steps: 0, batch: 3}")),
        ("extra: select.images", "extra: select.image"),
        ("rows: [s2t", "rows: [s2s"),
        ("init: pretrain.model\n    classifier: shallow", "init: pretrain.model\n    classifier: shalow"),
        ("  att_gen: {synthesise", "  att_gen: {synthesize"),
        (EVALUATE, EVALUATE.replace("target.test", "source.test").replace("adapt.", "adopt.")),
    )
    keys = [line.split(": ")[1] for line in found]
    assert set(keys) == {
        "data.source.peeple", "data.source.split.holdout", "components.deep.use", "stages.pretrain.steps",
        "stages.pretrain.batch", "stages.adapt.extra", "stages.adapt.classifier", "stages.evaluate.model",
        "rows", "synthesize.translator",
    }  # fmt: skip
    assert len(keys) == len(set(keys)) == 10
    assert all(line.startswith("toy.yaml:") and line.split(":")[1].isdigit() for line in found)


def test_missing_parts_are_named(tmp_path, known):
    path = tmp_path / "r.yaml"
    path.write_text("title: x\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, registry=known)
    assert caught.value.problems == tuple(f"{path}: {k}: is missing" for k in ("recipe", "method", "data", "stages"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "3"])
def test_a_recipe_is_a_mapping(tmp_path, known, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml: a recipe is a mapping with recipe, title, method"):
        load_recipe(path, registry=known)


def test_a_duplicate_key(faults):
    (found,) = faults(("  generator: {use", "  deep: {use: toy_classifier}\n  generator: {use"))
    first = line_of("deep: {use")
    assert found == f"toy.yaml:{first + 2}: components.deep: this key stands twice (first at toy.yaml:{first})"


def test_files_that_are_no_recipes(tmp_path, known):
    (tmp_path / "latin.yaml").write_bytes("title: é".encode("latin-1"))
    with pytest.raises(RecipeError, match="not UTF-8 text"):
        load_recipe(tmp_path / "latin.yaml", registry=known)
    with pytest.raises(DakitError, match=r"nowhere\.yaml: there is no such file, and no shipped recipe"):
        load_recipe("nowhere.yaml", registry=known)
    with pytest.raises(DakitError, match='did you mean "cycleat_sfew"'):
        load_recipe("cycleat_swef", registry=known)


# ----------------------------------------------------------------------------------------- hostile
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PRETRAIN, PRETRAIN.replace("do: toy_train", "_target_: os.system, do: toy_train")),
        (PRETRAIN, PRETRAIN.replace("do: toy_train", "do: os.system")),
        (PRETRAIN, PRETRAIN.replace("deep}", "!!python/object/apply:os.system ['touch hacked']}")),
        (PRETRAIN, PRETRAIN.replace("deep}", "{use: os.system, command: touch hacked}}")),
        (PRETRAIN, PRETRAIN.replace("deep}", "{_target_: os.system, _args_: [touch hacked]}}")),
        ("deep: {use: toy_classifier}", "deep: !import_call os.system"),
        ("deep: {use: toy_classifier}", "deep: !!python/object/new:os.system {use: toy_classifier}"),
        ("deep: {use: toy_classifier}", "deep: {use: toys.ToyClassifier}"),
        ("deep: {use: toy_classifier}", "deep: {use: 'dakit/__import__'}"),
        ("method: cycleat", "method: cycleat\n_target_: os.system"),
        ("method: cycleat", "method: cycleat\nplugins: [evil.py]"),
        ("recipe: toy", "recipe: /tmp/elsewhere"),
        (SOURCE, "source: {use: toy_images, __class__: 3, split: {holdout: 0.2}}"),
    ],
)
def test_a_hostile_recipe_is_refused_and_runs_nothing(faults, tmp_path, monkeypatch, old, new):
    import os
    import subprocess

    def never(*args, **kwargs):
        raise AssertionError("a recipe ran something")

    monkeypatch.setattr(os, "system", never)
    monkeypatch.setattr(subprocess, "Popen", never)
    monkeypatch.chdir(tmp_path)
    assert faults((old, new))
    assert [path.name for path in tmp_path.iterdir()] == ["toy.yaml"]


# ----------------------------------------------------------------------------------- broken plugins
@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("class Bad:\n    version = 1\n    def run(self, ctx, *, images: ImageSet): ...", "KeyError('return')"),
        ("class Bad:\n    version = 1", "no attribute 'run'"),
        ("class Bad:\n    def run(self, ctx, *, images: 'Nowhere') -> None: ...", "name 'Nowhere' is not defined"),
        ("class Bad:\n    def __init__(self, *a): ...\n    def run(self, ctx, *, images: ImageSet) -> Made: ...",
         "its signature has *a, so parameters cannot be checked"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_be_checked_is_told(tmp_path, stage, message):
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from typing import NamedTuple\nfrom dakit import hookimpl\nfrom dakit.interfaces import ImageSet\n"
        f"class Made(NamedTuple):\n    images: ImageSet\n{stage}\n@hookimpl\n"
        "def dakit_stages():\n    return {'bad': Bad}\n"
    )
    path = tmp_path / "r.yaml"
    path.write_text(
        "recipe: r\nmethod: m\ndata:\n  size: 4\n  d: {use: digits, domain: printed}\n"
        "stages:\n  one: {do: bad, images: d.all}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, plugins=[plugin])
    assert message in str(caught.value)


def test_a_plugin_file_may_postpone_its_annotations(tmp_path, toys):
    assert "from __future__ import annotations" in toys.read_text()
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
    recipe = load_recipe(tmp_path / "toy.yaml", plugins=[toys])
    assert recipe.plan("s2t").stages[0].spec.name == "toy_train"


def test_a_plugin_that_failed_is_named_where_its_component_is_missed(tmp_path, known, monkeypatch):
    monkeypatch.setattr(type(known.plugins), "failures", lambda self: ["dist/name: failed: ImportError: no torch"])
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE.replace("use: toy_translator", "use: theirs"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "toy.yaml", registry=known)
    assert "plugin not loaded: dist/name: failed: ImportError: no torch" in str(caught.value)


# ------------------------------------------------------------------------- rows that say what they add
ADAPT = """\
  adapt:
    do: toy_train
    train: target.train
    extra: select.images
    teacher: stage_2.classifier
    init: pretrain.model
    classifier: shallow
"""
ALIKE = (
    (ADAPT, """\
  plain: {do: toy_train, train: target.train, init: pretrain.model, classifier: shallow}
  adapt: {like: plain, extra: select.images, teacher: stage_2.classifier}
"""),
    ("  fine_tune: {adapt.extra: null, adapt.teacher: null}", "  fine_tune: {adapt: {like: plain}}"),
    ("  attention: {adapt.extra: null, adapt.teacher: pretrain.model}",
     "  attention:\n    adapt:\n      like: plain\n      teacher: pretrain.model"),
)  # fmt: skip
ALIKE_TEXT = toy_module.RECIPE
for old_, new_ in ALIKE:
    ALIKE_TEXT = ALIKE_TEXT.replace(old_, new_)


def test_rows_that_add_are_rows_that_take_away(load):
    assert load(*ALIKE).plans == load().plans


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["adapt.steps=5"], ""),
        (["adapt.classifier=deep"], ""),
        (["adapt.extra=synthesise.images"], f"--set adapt.extra: not for fine_tune, attention: {NAMED}"),
        (["adapt.teacher=pretrain.model"], f"--set adapt.teacher: not for fine_tune: {NAMED}"),
        (
            ["adapt.steps=5", "fine_tune:adapt.steps=8", "attention:adapt.classifier=deep"],
            f"--set adapt.steps: not for fine_tune: {NAMED}",
        ),
    ],
)
def test_what_is_set_for_the_method_holds_for_rows_that_do_not_decide_it(load, overrides, note):
    new, old = load(*ALIKE, overrides=overrides), load(overrides=overrides)
    assert new.plans == old.plans
    assert new.plans != load().plans
    assert new.notes == old.notes == ((note,) if note else ())


def test_a_stage_has_what_is_set_for_the_one_that_it_is_like(load):
    recipe = load(*ALIKE, overrides=["plain.steps=7", "attention:adapt.steps=9"])
    steps = {row: recipe.plan(row).stages[-2].spec.params["steps"] for row in recipe.rows[1:]}
    assert steps == {"fine_tune": 7, "attention": 9, "att_gen": 7, "cycleat": 7}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("fine_tune:adapt.teacher=pretrain.model", "fine_tune is the row without adapt.teacher; what differs there is"),
        ("attention:adapt.teacher=null", "attention is the row with adapt.teacher: pretrain.model; what differs"),
        ("attention:adapt={like: plain}", "attention is the row without adapt.extra; what differs"),
        ("variants.fine_tune={}", "variants.fine_tune: a row means what the recipe says"),
    ],
)
def test_no_override_makes_another_row_of_one_that_says_what_it_adds(faults, override, problem):
    found = faults(*ALIKE, overrides=[override])
    assert any(problem in line for line in found), found


def test_a_profile_holds_for_rows_that_say_what_they_add(load):
    recipe = load(*ALIKE, profile="big")
    assert {p.stages[-2].spec.params["steps"] for row, p in recipe.plans.items() if row != "s2t"} == {9}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("      teacher: pretrain.model", "      teacher: pretrain.modell", "pretrain.modell",
         'stages.adapt.teacher: stage pretrain makes no "modell", did you mean "model"?'),
        ("      teacher: pretrain.model", "      teachr: pretrain.model", "teachr",
         'stages.adapt.teachr: stage "toy_train" has no such parameter, did you mean "teacher"?'),
        ("      like: plain", "      like: plan", "like: plan",
         'stages.adapt.like: there is no stage "plan", did you mean "plain"?'),
        ("adapt: {like: plain, extra", "adapt: {like: evaluate, extra", "like: evaluate",
         "stages.adapt.like: evaluate does not stand above; an entry may be like one that stands above it"),
        ("adapt: {like: plain, extra", "adapt: {like: adapt, extra", "like: adapt",
         "stages.adapt.like: adapt does not stand above; an entry may be like one that stands above it"),
        ("adapt: {like: plain, extra", "adapt: {like: [plain], extra", "like: [plain]",
         "stages.adapt.like: there is no stage \"['plain']\", did you mean \"plain\"?"),
        ("shallow}\n  adapt", "shallow, steps: 0}\n  adapt", "steps: 0",
         "stages.plain.steps: Input should be greater than 0, not 0"),
        ("shallow}\n  adapt", "shallow, stepps: 2}\n  adapt", "stepps: 2",
         'stages.plain.stepps: stage "toy_train" has no such parameter, did you mean "steps"?'),
        ("shallow}\n  adapt", "shalow}\n  adapt", "shalow}",
         'stages.plain.classifier: there is no component "shalow", did you mean "shallow"?'),
        ("  shallow: {use: toy_classifier, scale: 0.5}", "  shallow: {like: deeep, scale: 0.5}", "like: deeep",
         'components.shallow.like: there is no component "deeep", did you mean "deep"?'),
        ("  shallow: {use: toy_classifier, scale: 0.5}", "  shallow: {like: deep, scalle: 0.5}", "scalle",
         'components.shallow.scalle: classifier "toy_classifier" has no such parameter, did you mean "scale"?'),
        ("classifier: deep}", "classifier: {like: deep}}", "classifier: {like: deep}",
         "stages.pretrain.classifier: needs `use:` with the name of a classifier"),
    ],
)  # fmt: skip
def test_a_fault_in_what_is_alike_is_told_once_where_it_stands(load, tmp_path, known, old, new, line, message):
    assert ALIKE_TEXT.count(old) == 1
    text = ALIKE_TEXT.replace(old, new)
    (tmp_path / "alike.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "alike.yaml", registry=known)
    (found,) = caught.value.problems
    assert found.startswith(f"{tmp_path}/alike.yaml:{line_of(line, text)}: {message}")


# ----------------------------------------------------------------------------------------- shipped
@pytest.mark.parametrize("name", sorted(path.stem for path in OLD.glob("*.yaml")))
def test_recipes_of_0_3_still_load_and_mean_what_today_s_mean(name, registry):
    old, new = load_recipe(OLD / f"{name}.yaml", registry=registry), load_recipe(name, registry=registry)
    assert old.profiles == new.profiles
    for profile in (None, *old.profiles):
        old, new = (load_recipe(file, profile=profile, registry=registry) for file in (OLD / f"{name}.yaml", name))
        assert new.plans == old.plans
        assert list(new.plans) == list(old.plans)
        same = ("name", "title", "rows", "baseline", "seeds", "engine", "observers", "published", "notes")
        assert {key: getattr(new, key) for key in same} == {key: getattr(old, key) for key in same}


def test_the_flagship_fits_one_screen():
    assert len((RECIPES / "cycleat_sfew.yaml").read_text().splitlines()) <= 110


def test_the_shipped_recipes_are_those_on_disk():
    assert set(shipped_recipes().values()) == set(RECIPES.rglob("*.yaml"))
    assert set(shipped_recipes()) == {
        "clothes", "cycleat_digits", "cycleat_emotionet", "cycleat_sfew", "source_classifiers",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_good_with_every_profile(path, registry):
    recipe = load_recipe(path, registry=registry)
    assert recipe.name == path.stem
    assert "smoke" in recipe.profiles
    assert set(recipe.published) <= set(recipe.plans)
    for plan in recipe.plans.values():
        assert plan.stages[-1].spec.name == "evaluate"
    for profile in recipe.profiles:
        again = load_recipe(path, profile=profile, registry=registry)
        assert again.rows
        assert again.published == {}, "numbers from a paper do not stand beside those of a profile"
        assert check_data(again) == "data: none is needed from disk"


@pytest.mark.parametrize("name", ["cycleat_sfew", "cycleat_sfew.yaml", "recipes/cycleat_sfew.yaml"])
def test_a_shipped_recipe_is_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == shipped_recipes()["cycleat_sfew"]
    (tmp_path / "cycleat_sfew.yaml").write_text("")
    assert find_recipe("cycleat_sfew.yaml") == Path("cycleat_sfew.yaml")  # a file is nearer than a name


SETTINGS = {
    "adapt.steps": st.integers(1, 10**6),
    "shallow.scale": st.floats(-1e6, 1e6),
    "data.source.people": st.integers(3, 9),
}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(SETTINGS)).flatmap(lambda k: st.tuples(st.just(k), SETTINGS[k])), max_size=5))
def test_the_last_of_any_overrides_holds_and_nothing_else_changes(load, given_):
    plain = load().plan("cycleat")
    changed = load(overrides=[f"{key}={value!r}" for key, value in given_]).plan("cycleat")
    wanted = dict(given_)

    def values(plan):
        stages = {stage.name: stage.spec.params for stage in plan.stages}
        return {
            "adapt.steps": stages["adapt"]["steps"],
            "shallow.scale": stages["adapt"]["classifier"].params["scale"],
            "data.source.people": plan.data["source"].spec.params["people"],
        }

    assert values(changed) == values(plain) | wanted
    same = {stage.name for stage in plain.stages} - {"adapt"}
    assert [s for s in plain.stages if s.name in same] == [s for s in changed.stages if s.name in same]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_any_override_is_taken_or_refused_in_words(load, text):
    with contextlib.suppress(DakitError):
        load(overrides=[text])
