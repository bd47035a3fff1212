from __future__ import annotations

from typing import Any

import pytest

import tiny
from dakit.interfaces import Spec
from dakit.signatures import ParameterProblems
from dakit.testing import CONTRACTS, ContractError, check_component, check_transfer_loss
from dakit.testing.contract import Result, is_described, run, wanted
from dakit_builtins.transfer_losses.soft_targets import SoftTargets


def holds(spec: Spec[Any]) -> None:
    """Fine."""


def breaks(spec: Spec[Any]) -> None:
    """A reason,
    on two lines."""
    wanted(False, "this was found")


def raises(spec: Spec[Any]) -> None:
    """Another reason."""
    raise KeyError("gone")


def test_every_check_runs_and_every_failure_says_what_and_why() -> None:
    assert run((breaks, holds, raises), tiny.spec(tiny.Generator)) == [
        Result("breaks", "this was found. A reason, on two lines."),
        Result("holds", None),
        Result("raises", "raised KeyError: 'gone'. Another reason."),
    ]


def test_an_error_names_all_that_failed() -> None:
    class Loud:
        """Says nothing of its weight."""

        def __init__(self, *, weight: float = 1.0) -> None: ...

        def __call__(self, teacher: Any, student: Any) -> str:
            return "loud"

    with pytest.raises(ContractError) as caught:
        check_transfer_loss(Loud)
    text = str(caught.value)
    assert "is_a_finite_scalar: it returns <class 'str'>" in text
    assert text.count("\n") >= 3
    check_transfer_loss(SoftTargets, temperature=2.0)


def test_parameters_are_checked_as_in_a_recipe() -> None:
    with pytest.raises(ParameterProblems, match="temperature"):
        check_component("transfer_loss", SoftTargets, {"temperature": -1.0})


def test_a_docstring_names_every_parameter() -> None:
    class Silent:
        def __init__(self, *, width: int = 3) -> None: ...

    class Half:
        """Has width."""

        def __init__(self, *, width: int = 3, depth: int = 2) -> None: ...

    class Bare:
        """Has width and depth."""

        def __init__(self, *, width=3, depth: int = 2) -> None: ...  # type: ignore[no-untyped-def]

    kinds = (Silent, Half, Bare)
    found = [run((is_described,), tiny.spec(kind, width=3, depth=2))[0].problem for kind in kinds]
    assert found[0] is not None
    assert found[0].startswith("it has no docstring")
    assert found[1] is not None
    assert found[1].startswith("the docstring does not name depth.")
    assert found[2] is not None
    assert found[2].startswith("no annotation says what width may be.")


def test_every_check_gives_its_reason() -> None:
    for checks in CONTRACTS.values():
        assert all(check.__doc__ and len(check.__doc__) > 20 for check in checks)
        assert len({check.__name__ for check in checks}) == len(checks) >= 3
