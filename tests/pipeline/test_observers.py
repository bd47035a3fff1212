from __future__ import annotations

from pathlib import Path

import pytest

import toys as toy_module
from dakit.errors import DakitError, RecipeError
from dakit.interfaces import JobInfo, Observer, Spec
from dakit.pipeline import run as pipeline
from dakit.pipeline.observers import Observers, build
from dakit.recipe.load import load_recipe

STAGE = JobInfo("pretrain", "toy_train", "s2t", 0, 1, 2, 5)
FAULTY = """
from dakit import hookimpl

class Faulty:
    def __init__(self, folder, *, at: str = "stage_started") -> None:
        setattr(self, at, self.fail)
        if at == "init":
            self.fail()

    def fail(self, *facts) -> None:
        raise ValueError("no more paper")

@hookimpl
def dakit_observers():
    return {"faulty": Faulty}
"""


class Everything:
    """Remembers all that it is told."""

    def __init__(self, folder: Path | None = None) -> None:
        self.heard: list[tuple[object, ...]] = []

    def __getattr__(self, event):
        if event.startswith("_"):
            raise AttributeError(event)
        return lambda *facts: self.heard.append((event, *facts))

    @property
    def events(self) -> list[object]:
        return [event for event, *_ in self.heard]


@pytest.fixture
def recipe(tmp_path, toys):
    """Load the toy recipe with observers; ``faulty`` is one that raises."""

    def read(*observe, text=toy_module.RECIPE, profile=None):
        (tmp_path / "toy.yaml").write_text(text)
        (tmp_path / "faulty.py").write_text(FAULTY)
        plugins = [toys, tmp_path / "faulty.py"]
        return load_recipe(tmp_path / "toy.yaml", observe=observe, plugins=plugins, profile=profile)

    return read


# ------------------------------------------------------------------------------------ the dispatcher
def test_a_stage_of_a_run_can_be_read():
    assert str(STAGE) == "pretrain (for s2t, seed 0, fold 1)"


def test_everyone_is_told_and_no_one_needs_every_method():
    class Deaf:
        pass

    class Step:
        def step(self, done, losses):
            self.heard = (done, losses)

    step, everything = Step(), Everything()
    told = Observers([("deaf", Deaf()), ("step", step), ("everything", everything)])
    told.step(3, {"loss": 0.5})
    told.message("well")
    assert step.heard == (3, {"loss": 0.5})
    assert everything.heard == [("step", 3, {"loss": 0.5}), ("message", "well")]


def test_only_what_the_contract_names_can_be_told():
    with pytest.raises(AttributeError):
        Observers([]).stage_begun(STAGE)


def test_one_that_raises_is_named_to_the_others_and_told_nothing_more():
    class Faulty:
        calls = 0

        def step(self, done, losses):
            self.calls += 1
            raise ValueError("no more paper")

    faulty, everything = Faulty(), Everything()
    told = Observers([("faulty", faulty), ("everything", everything)])
    told.step(1, {})
    told.step(2, {})
    text = "observer faulty fails in step and is told nothing more: ValueError: no more paper"
    assert faulty.calls == 1
    assert everything.heard == [("step", 1, {}), ("message", f"warning: {text}"), ("step", 2, {})]
    assert told.failures == [text]


def test_all_may_fail_even_when_told_of_another():
    class Mute:
        def message(self, text):
            raise OSError("gone")

        step = message

    told = Observers([("one", Mute()), ("two", Mute())])
    told.message("x")
    assert len(told.failures) == 2
    told.message("y")
    assert len(told.failures) == 2


def test_the_end_is_told_whatever_it_is():
    everything = Everything()
    told = Observers([("everything", everything)])
    for error in (DakitError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), told.of_run("toy", 5), told.of_stage(STAGE):
            raise error
        assert everything.heard[-4:] == [
            ("run_started", "toy", 5),
            ("stage_started", STAGE),
            ("stage_failed", STAGE, error),
            ("run_ended", error),
        ]


def test_one_that_cannot_be_made_is_named():
    def strange(folder):
        raise KeyError("x")

    with pytest.raises(DakitError, match="observer strange: KeyError: 'x'"):
        build(Spec("observer", "strange", {}, strange), Path())


# ------------------------------------------------------------------------------------- in a run
def test_what_a_run_tells(recipe, tmp_path):
    everything = Everything()
    pipeline.run(recipe(), rows=["s2t"], fold=0, out=tmp_path / "out", observers=[everything])
    assert everything.events == [
        "run_started",
        "stage_started", "message", "stage_finished",
        "stage_started", "work_started", "step", "stage_finished",
        "run_ended",
    ]  # fmt: skip
    assert everything.heard[0] == ("run_started", "toy", 2)
    first, second = (facts[1] for facts in everything.heard if facts[0] == "stage_started")
    assert first == JobInfo("pretrain", "toy_train", "s2t", 0, 0, 1, 2)
    assert second == JobInfo("evaluate", "evaluate", "s2t", 0, 0, 2, 2)
    assert everything.heard[-1] == ("run_ended", None)
    again = Everything()
    pipeline.run(recipe(), rows=["s2t"], fold=0, out=tmp_path / "out", observers=[again])
    assert again.heard == [("run_started", "toy", 2), ("run_ended", None)]


def test_a_stage_that_fails_is_told(recipe, tmp_path, monkeypatch):
    def fail(self, text):
        raise DakitError("out of paper")

    broken = recipe()
    monkeypatch.setattr("dakit.interfaces.Context.note", fail)
    everything = Everything()
    with pytest.raises(DakitError, match=r"pretrain \(for s2t, seed 0, fold 0\): out of paper"):
        pipeline.run(broken, rows=["s2t"], out=tmp_path / "out", observers=[everything])
    assert everything.events == ["run_started", "stage_started", "stage_failed", "run_ended"]


@pytest.mark.parametrize("at", sorted(name for name in vars(Observer) if not name.startswith("_")))
def test_an_observer_that_fails_anywhere_harms_no_result(recipe, tmp_path, at):
    plain = pipeline.run(recipe(), rows=["s2t"], out=tmp_path / "plain")
    seen = pipeline.run(recipe(f"{{use: faulty, at: {at}}}"), rows=["s2t"], out=tmp_path / "seen")
    assert seen.summaries["s2t"].macro == plain.summaries["s2t"].macro
    stored = [sorted(p.name for p in (tmp_path / name / "store").iterdir()) for name in ("plain", "seen")]
    assert stored[0] == stored[1]  # observers are in no key
    told = [note for note in seen.warnings if "faulty" in note]
    happens = at not in ("epoch", "stage_failed", "run_ended")  # the last is told when results are written
    assert told == ([f"observer faulty fails in {at} and is told nothing more: ValueError: no more paper"] * happens)


def test_one_that_cannot_be_made_stops_a_run_before_it_writes(recipe, tmp_path):
    with pytest.raises(DakitError, match="observer faulty: ValueError: no more paper"):
        pipeline.run(recipe("{use: faulty, at: init}"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_names_observers_with_parameters(recipe):
    text = toy_module.RECIPE + "observers: [terminal, {use: tensorboard, every: 3}]\n"
    found = recipe("{use: tensorboard, every: 5}", text=text).observers
    assert [(spec.name, dict(spec.params)) for spec in found] == [
        ("terminal", {}), ("tensorboard", {"every": 3}), ("tensorboard", {"every": 5}),
    ]  # fmt: skip
    profile = toy_module.RECIPE.replace("profiles:\n", "profiles:\n  seen: {observers: [terminal]}\n")
    assert [spec.name for spec in recipe(text=profile, profile="seen").observers] == ["terminal"]


def test_every_fault_of_observers_is_told_with_its_place(recipe):
    text = toy_module.RECIPE + "observers:\n  - terminol\n  - {use: tensorboard, evry: 3}\n  - 7\n  - {every: 3}\n"
    with pytest.raises(RecipeError) as caught:
        recipe("trackr", "{use: tracker}", text=text)
    faults = "\n".join(caught.value.problems)
    for part in (
        'observers.0.use: no observer is called "terminol", did you mean "terminal"?',
        'observers.1.evry: observer "tensorboard" has no such parameter, did you mean "every"?',
        "observers.2: must be a mapping with `use`, not 7",
        "observers.3: needs `use:` with the name of a observer",
        '--observe trackr: observers.4.use: no observer is called "trackr", did you mean "tracker"?',
        '--observe {use: tracker}: observers.5.name: observer "tracker" needs this parameter',
    ):
        assert part in faults
    assert len(caught.value.problems) == 6
