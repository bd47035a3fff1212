"""The contract of every kind of component, as checks that run with or without pytest.

In a plugin's own tests, one line::

    def test_contract():
        check_transfer_loss(MyLoss, beta=2.0)

A :class:`ContractError` names every check that failed, with what was found and what the contract wants and why.
``dakit check-plugin NAME`` runs the same and prints a table. Nothing here is needed to run a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dakit.interfaces import Spec
from dakit.registry import KINDS
from dakit.signatures import validated
from dakit.testing import datasets, estimators, networks, observers, selectors, stages, transfer_losses
from dakit.testing.contract import Check, ContractError, Result, run

__all__ = [
    "CONTRACTS", "ContractError", "Result", "check_classifier", "check_component", "check_dataset",
    "check_discriminator", "check_estimator", "check_observer", "check_selector", "check_stage", "check_transfer_loss",
    "check_translator",
]  # fmt: skip

CONTRACTS: Mapping[str, tuple[Check, ...]] = {
    "dataset": datasets.CHECKS,
    "translator": networks.TRANSLATOR,
    "discriminator": networks.DISCRIMINATOR,
    "classifier": networks.CLASSIFIER,
    "transfer_loss": transfer_losses.CHECKS,
    "selector": selectors.CHECKS,
    "estimator": estimators.CHECKS,
    "stage": stages.CHECKS,
    "observer": observers.CHECKS,
}
"""The checks of each kind, in the order in which they run."""


def check_component(kind: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> list[Result]:
    """Run every check of a kind.

    Args:
        kind: one of :data:`CONTRACTS`.
        factory: what a plugin registers.
        params: parameters, as a recipe would set them; those without a default must be among them.

    Raises:
        ParameterProblems: the parameters do not fit the signature.
    """
    values = validated(factory, KINDS[kind].given, f"{kind} {getattr(factory, '__name__', factory)}", params)
    name, version = str(getattr(factory, "__name__", kind)), getattr(factory, "version", 1)
    return run(CONTRACTS[kind], Spec(kind, name, values, factory, version if isinstance(version, int) else 1))


def _demand(kind: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> None:
    failed = [result for result in check_component(kind, factory, params) if result.problem]
    if failed:
        raise ContractError("\n".join(f"{result.check}: {result.problem}" for result in failed))


def check_dataset(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a dataset breaks its contract."""
    _demand("dataset", factory, params)


def check_translator(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a translator breaks its contract."""
    _demand("translator", factory, params)


def check_discriminator(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a discriminator breaks its contract."""
    _demand("discriminator", factory, params)


def check_classifier(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a classifier breaks its contract."""
    _demand("classifier", factory, params)


def check_transfer_loss(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a transfer loss breaks its contract."""
    _demand("transfer_loss", factory, params)


def check_selector(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a selector breaks its contract."""
    _demand("selector", factory, params)


def check_estimator(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if an estimator breaks its contract.

    An estimator that it needs within and that ``params`` leaves out is a small one of the kit's own.
    """
    _demand("estimator", factory, params | stages.small_components(factory, params))


def check_stage(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if a stage breaks its contract.

    Components that the stage needs and that ``params`` leaves out are small ones of the kit's own.
    """
    _demand("stage", factory, params | stages.small_components(factory, params))


def check_observer(factory: Callable[..., Any], **params: Any) -> None:
    """Raise a :class:`ContractError` if an observer breaks its contract."""
    _demand("observer", factory, params)
