from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal

import annotated_types
import pytest
import torch

from dakit.data.augment import Augment
from dakit.errors import DakitError
from dakit.interfaces import Classifier, File, Folder, Fraction, NonNegative, Positive, Selector, Spec
from dakit.plugins import find_plugins
from dakit.registry import KINDS, ParameterProblems, check, component_kind, schema


def factory(
    *,
    steps: Positive,
    lr: Annotated[float, annotated_types.Gt(0)] = 1e-3,
    beta: NonNegative = 0.0,
    share: Fraction | None = None,
    form: Literal["mean", "sum"] = "mean",
    shuffle: bool = True,
    roots: list[Folder] | None = None,
    weights: File | None = None,
    layers: tuple[int, ...] = (),
    classifier: Spec[Classifier] | None = None,
    augment: Augment | None = None,
) -> None: ...


def problems(**params: Any) -> dict[str, str]:
    with pytest.raises(ParameterProblems) as caught:
        check(factory, 0, 'thing "t"', params)
    return {".".join(path): text for path, text in caught.value.problems}


def test_defaults_are_filled_in():
    values = check(factory, 0, "thing", {"steps": 3})
    assert values == {
        "steps": 3, "lr": 1e-3, "beta": 0.0, "share": None, "form": "mean", "shuffle": True, "roots": None,
        "weights": None, "layers": (), "classifier": None, "augment": None,
    }  # fmt: skip
    assert list(values) == list(schema(factory, 0, "thing").model_fields)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "greater than 0, not 0"),
        ("steps", 2.0, "valid integer, not 2.0"),
        ("steps", "3", "valid integer, not '3'"),
        ("steps", True, "valid integer, not True"),
        ("steps", None, "valid integer, not None"),
        ("lr", 0, "greater than 0, not 0"),
        ("lr", "1e-3", "valid number, not '1e-3'"),
        ("lr", math.nan, "finite number, not nan"),
        ("lr", math.inf, "finite number, not inf"),
        ("beta", -1, "greater than or equal to 0, not -1"),
        ("share", 1.5, "less than or equal to 1, not 1.5"),
        ("form", "men", "'mean' or 'sum', not 'men'"),
        ("shuffle", 1, "valid boolean, not 1"),
        ("shuffle", "yes", "valid boolean, not 'yes'"),
        ("roots", "a", "valid list, not 'a'"),
        ("roots", [1], "0: Input should be a valid string, not 1"),
        ("weights", "", "at least 1 character, not ''"),
        ("classifier", "deep", "instance of Spec"),
        ("augment", {"flipp": 0.5}, "flipp: Extra inputs are not permitted"),
        ("augment", {"flip": 2}, "flip: Input should be less than or equal to 1, not 2"),
    ],
)
def test_values_are_checked_strictly(name, value, message):
    found = problems(**{"steps": 1, name: value})
    assert list(found) == [name]
    assert message in found[name]


def test_a_whole_number_is_a_number():
    assert check(factory, 0, "thing", {"steps": 1, "lr": 1, "beta": 2})["lr"] == 1


def test_every_problem_at_once_with_the_nearest_name():
    assert problems(lrr=1, form="x", batch=2) == {
        "batch": 'thing "t" has no such parameter; there are: augment, beta, classifier, form, layers, lr, '
        "roots, share, shuffle, steps, weights",
        "form": "Input should be 'mean' or 'sum', not 'x'",
        "lrr": 'thing "t" has no such parameter, did you mean "lr"?',
        "steps": 'thing "t" needs this parameter',
    }


def test_arguments_that_dakit_passes_cannot_be_set():
    def dataset(size: int, classes: Any, *, people: int = 1) -> None: ...

    assert check(dataset, 2, "dataset", {}) == {"people": 1}
    with pytest.raises(ParameterProblems, match="size: dataset has no such parameter"):
        check(dataset, 2, "dataset", {"size": 3})


@pytest.mark.parametrize("kind", ["args", "kwargs"])
def test_a_signature_without_names_cannot_be_checked(kind):
    def args(*args: int) -> None: ...
    def kwargs(**kwargs: int) -> None: ...

    with pytest.raises(DakitError, match=rf"thing: its signature has \*{kind}, so parameters cannot be checked"):
        schema({"args": args, "kwargs": kwargs}[kind], 0, "thing")


def test_a_module_without_weights_of_its_own_is_told_what_to_write():
    class Weightless(torch.nn.Module): ...

    with pytest.raises(DakitError, match=r"has \*args.*a signature of its own names each \(a class inherits"):
        schema(Weightless, 0, "translator")


@pytest.mark.parametrize("name", ["schema", "copy", "json", "model_name", "validate"])
def test_a_parameter_may_have_any_name(name):
    scope: dict[str, Any] = {}
    exec(f"def thing(*, {name}: int = 1) -> None: ...", scope)
    assert check(scope["thing"], 0, "thing", {name: 2}) == {name: 2}


def test_a_class_is_a_factory():
    class Thing:
        version = 3

        def __init__(self, classes: int, *, width: Positive = 8) -> None: ...

    assert check(Thing, 1, "thing", {"width": 2}) == {"width": 2}


def test_kinds_of_components():
    for kind, about in KINDS.items():
        assert component_kind(Spec[about.interface]) == kind
        assert component_kind(Spec[about.interface] | None) == kind
    assert component_kind(Spec[Selector]) == "selector"
    assert component_kind(int | None) is None
    assert component_kind(Classifier) is None


def test_paths_are_filled_in_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    values = check(factory, 0, "thing", {"steps": 1, "roots": ["$SOMEWHERE/a"], "weights": "~/w"})
    assert values["roots"] == ["$SOMEWHERE/a"]
    assert isinstance(values["roots"][0], Folder)
    assert values["roots"][0].path == tmp_path / "a"
    assert isinstance(values["weights"], File)
    assert "~" not in str(values["weights"].path)


def test_a_file_counts_by_content_and_a_folder_by_name(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    spec = Spec("classifier", "x", {"weights": File(file), "root": Folder(tmp_path), "other": File(tmp_path / "no")})
    assert spec.identity()["params"] == {
        "weights": hashlib.sha256(b"abc").hexdigest(),
        "root": str(tmp_path),
        "other": f"missing: {tmp_path / 'no'}",
    }


def test_a_spec_holds_everything_that_its_results_depend_on(registry):
    spec = registry.spec("transfer_loss", "attention_transfer", {"beta": 2})
    assert spec.params["beta"] == 2
    assert set(spec.params) == set(schema(spec.factory, 0, "x").model_fields)
    assert spec.identity()["version"] == getattr(spec.factory, "version", 1)
    again = registry.spec("transfer_loss", "attention_transfer", {"beta": 2})
    other = registry.spec("transfer_loss", "attention_transfer", {"beta": 3})
    assert spec == again
    assert hash(spec) == hash(again)
    assert spec != other
    assert spec.build() is not spec.build()


def test_unknown_kinds_and_names(registry):
    with pytest.raises(DakitError, match='no kind "translater", did you mean "translator"'):
        registry.entries("translater")
    with pytest.raises(DakitError, match='no translator is called "resnet_generater", did you mean "resnet_generator"'):
        registry.find("translator", "resnet_generater")


def every_component() -> list[Any]:
    from dakit.registry import Registry

    registry = Registry(find_plugins())
    return [pytest.param(e, id=f"{e.kind}-{e.name}") for kind in KINDS for e in registry.entries(kind)]


@pytest.mark.parametrize("entry", every_component())
def test_every_component_has_a_schema_and_says_what_it_is(entry):
    model = schema(entry.factory, KINDS[entry.kind].given, entry.name)
    assert all(field.annotation is not Any for field in model.model_fields.values())
    assert len((entry.factory.__doc__ or "").strip()) > 20
    for name in model.model_fields:
        assert name in entry.factory.__doc__, f"{name} is not described"


def test_a_version_that_is_no_number_is_named(registry, monkeypatch):
    entry = registry.find("transfer_loss", "soft_targets")
    monkeypatch.setattr(entry.factory, "version", "two", raising=False)
    with pytest.raises(
        DakitError, match="transfer_loss \"soft_targets\": its version is 'two'; a whole number was expected"
    ):
        registry.spec("transfer_loss", "soft_targets", {})
