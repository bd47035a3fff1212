from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from torch import nn

from dakit.errors import DakitError, RecipeError
from dakit.interfaces import Observer
from dakit.optional import OPTIONAL, misspelt, near
from dakit.pipeline import run as pipeline
from dakit.pipeline.observers import Observers
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.registry import KINDS, Registry
from toys import RECIPE


def swapped(name: str) -> str:
    """Two letters in the middle in the wrong order, where they differ."""
    at = next(i for i in range(1, len(name) - 1) if name[i] != name[i + 1])
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


def class_with(**parts):
    return type("Mine", (), {"__module__": "mine", **parts})


def method(arguments: int):
    names = ", ".join(f"a{i}" for i in range(arguments))
    return eval(f"lambda self, {names}: None")


def of_sort(sort):
    values = {"number": 3, "flag": True, "method": method(1)}
    return values[sort] if isinstance(sort, str) else method(sort)


EVERY = [(kind, name) for kind, names in OPTIONAL.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_slip_in_any_optional_name_is_found(kind, name):
    value = of_sort(OPTIONAL[kind][name])
    another = [name[0] + "x" + name[2:]] if len(name) >= 7 else []
    for slip in (swapped(name), name[:-1], name + "s", *another):
        assert f"`{slip}`: did you mean `{name}`?" in misspelt(kind, class_with(**{slip: value})), slip
    assert misspelt(kind, class_with(**{name: value})) == ""
    assert misspelt(kind, class_with(**{f"_{swapped(name)}": value})) == "", "a helper of one's own"
    assert misspelt(kind, class_with(**{swapped(name): value, name: value})) == "", "the right one is there"


def test_the_table_has_every_kind_and_every_event():
    assert OPTIONAL.keys() == KINDS.keys()
    assert {name for name in vars(Observer) if name.startswith(("run_", "stage_", "work_"))} <= set(
        OPTIONAL["observer"]
    )
    assert OPTIONAL["observer"]["step"] == 2


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("stage", {"checks": ["a", "b"], "versions": (1, 2), "make": method(0), "check_all": method(1)}),
        ("stage", {"run": method(1), "checked": method(1), "maker": 3, "gather": True, "takes": method(1)}),
        ("observer", {"steps": 3, "epochs": [], "step_done": method(2), "messages": method(0), "close": method(0)}),
        ("transfer_loss", {"weight": 1.0, "zero": True, "forward": method(2), "condensed": 3}),
        ("classifier", {"step": 2, "item": method(1), "stems": method(0), "heads": method(0)}),
        ("dataset", {"read": method(1), "paths": [], "fingers": method(0)}),
        ("selector", {"embedding": 3, "other": True}),
    ],
)  # fmt: skip
def test_ordinary_names_are_left_alone(kind, parts):
    assert misspelt(kind, class_with(**parts)) == ""


def test_other_people_s_classes_are_not_looked_at():
    base = type("Base", (), {"__module__": "other.place", "stemm": method(1)})
    assert misspelt("classifier", type("Mine", (base, nn.Module), {"__module__": "mine.place"})) == ""
    assert "`stemm`" in misspelt("classifier", type("Mine", (base,), {"__module__": "other"}))


def test_no_component_that_is_here_is_blamed(registry):
    for kind in KINDS:
        entries = registry.entries(kind)
        assert entries
        assert not [wrong for entry in entries if (wrong := misspelt(kind, entry.factory))]


@pytest.mark.parametrize(
    ("name", "right", "expected"),
    [
        ("condence", "condense", True), ("zero_when_equl", "zero_when_equal", True), ("run_start", "run_started", True),
        ("haed", "head", True), ("heat", "head", False), ("hea", "head", True), ("head", "head", False),
        ("ehda", "head", False), ("step", "epoch", False), ("stage_started", "stage_failed", False),
        ("verzion", "version", True),
    ],
)  # fmt: skip
def test_what_is_near(name, right, expected):
    assert near(name, right) is expected


def test_a_recipe_with_a_misspelt_part_is_refused(toys, tmp_path: Path):
    (tmp_path / "toy.yaml").write_text(RECIPE)
    text = toys.read_text().replace("def check(self, inputs", "def chek(self, inputs")
    (tmp_path / "plugin.py").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "toy.yaml", plugins=[tmp_path / "plugin.py"])
    first = caught.value.problems[0]
    assert "toy.yaml:17: stages.stage_1.do: " in first
    assert f'stage "toy_translate" of {tmp_path}/plugin.py: `chek`: did you mean `check`?' in first


def test_a_function_may_make_the_class_that_is_misspelt(tmp_path: Path, toys):
    """Then nothing is known of it before it is built, which is before anything runs."""
    (tmp_path / "toy.yaml").write_text(RECIPE)
    text = toys.read_text().replace('"toy_classifier": ToyClassifier', '"toy_classifier": made')
    made = "\ndef made(classes: int, *, scale: float = 1.0) -> nn.Module:\n    return ToyClassifier(classes)\n"
    forward = "    def forward(self, images: Tensor) -> Pred"
    stem = f"    def stemm(self, images: Tensor) -> Tensor:\n        return images\n\n{forward}"
    (tmp_path / "plugin.py").write_text(text.replace(forward, stem) + made)
    recipe = load_recipe(tmp_path / "toy.yaml", plugins=[tmp_path / "plugin.py"])
    with pytest.raises(DakitError, match=r"stages.pretrain.classifier: toy_classifier: `stemm`: did you mean `stem`\?"):
        pipeline.run(recipe, rows=["s2t"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Subclass(Observer):
    """Names the Protocol as its base, as it may."""

    version: ClassVar[int] = 1

    def stpe(self, done, losses): ...


def test_an_observer_that_would_hear_nothing_is_refused():
    with pytest.raises(DakitError, match=r"observer mine: `stpe`: did you mean `step`\?"):
        Observers([("mine", Subclass())])


def test_a_registry_names_who_made_it(tmp_path: Path):
    loss = "class Loss:\n    zero_when_equl = True\n    def __call__(self, t, s): return 0\n"
    hook = "from dakit import hookimpl\n@hookimpl\ndef dakit_transfer_losses(): return {'mine': Loss}\n"
    (tmp_path / "mine.py").write_text(loss + hook)
    registry = Registry(find_plugins([tmp_path / "mine.py"]))
    with pytest.raises(DakitError, match=r'transfer_loss "mine" of .*mine.py: `zero_when_equl`: did you'):
        registry.spec("transfer_loss", "mine", {})
