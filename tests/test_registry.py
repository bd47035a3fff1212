from __future__ import annotations

from typing import Any

import pytest

from dakit.errors import DakitError
from dakit.interfaces import Classifier, Selector, Spec
from dakit.plugins import find_plugins
from dakit.registry import KINDS, component_kind
from dakit.signatures import ParameterProblems, schema


def test_kinds_of_components():
    for kind, about in KINDS.items():
        assert component_kind(Spec[about.interface]) == kind
        assert component_kind(Spec[about.interface] | None) == kind
    assert component_kind(Spec[Selector]) == "selector"
    assert component_kind(int | None) is None
    assert component_kind(Classifier) is None


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


def test_a_component_within_another_is_written_out(registry):
    spec = registry.spec("estimator", "coral", {"then": {"use": "logistic", "C": [0.1, 1]}, "regularisation": 2})
    inner = spec.params["then"]
    assert (inner.kind, inner.name, inner.params["C"]) == ("estimator", "logistic", (0.1, 1))
    assert spec.plain_params() == {
        "then": {"use": "logistic", "C": [0.1, 1], "balanced": True, "iterations": 1000}, "regularisation": 2,
    }  # fmt: skip
    assert registry.spec("estimator", "coral", spec.plain_params()) == spec
    other = registry.spec("estimator", "coral", {"then": {"use": "logistic", "C": [0.1, 2]}, "regularisation": 2})
    assert other.identity() != spec.identity()


@pytest.mark.parametrize(
    ("then", "path", "message"),
    [
        ({"use": "logistik"}, ("then", "use"), 'no estimator is called "logistik", did you mean "logistic"'),
        ({"use": "logistic", "C": -1}, ("then", "C"), "greater than 0"),
        ({"use": "coral", "then": {"use": "knn", "k": 1}}, ("then", "then", "k"), "no such parameter"),
        ("logistic", ("then",), "expected an estimator written out here, {use: NAME, ...}, not 'logistic'"),
    ],
)
def test_what_is_wrong_within_is_told_where_it_stands(registry, then, path, message):
    with pytest.raises(ParameterProblems) as caught:
        registry.spec("estimator", "coral", {"then": then})
    ((found, text),) = caught.value.problems
    assert found == path
    assert message in text
