"""``dakit check-plugin`` on built-ins and on a plugin file with one good, one broken and one impossible component."""

from __future__ import annotations

import json

import pytest

PLUGIN = '''
from dakit import hookimpl


class Loss:
    """The squared difference of the features, plus ``offset``.

    Args:
        offset: what is added.
    """

    zero_when_equal = True

    def __init__(self, *, offset: float = 0.0) -> None:
        self.offset = offset

    def __call__(self, teacher, student):
        return (teacher.features - student.features).square().mean() + self.offset


class Needs(Loss):
    """The same, without a default for ``offset``."""

    def __init__(self, *, offset: float) -> None:
        self.offset = offset


def starred(*parts):
    """Takes anything."""


@hookimpl
def dakit_transfer_losses():
    return {"good": Loss, "needs": Needs, "starred": starred}
'''


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def problems(out: str) -> dict[str, list[str]]:
    """The failed checks of every component."""
    found: dict[str, list[str]] = {}
    for row in json.loads(out):
        found.setdefault(row["component"], [])
        if not row["passed"]:
            found[row["component"]].append(row["check"])
    return found


def test_a_built_in_passes_and_the_table_names_its_checks(dakit):
    code, out, err = dakit("check-plugin", "soft_targets", "discriminator/patchgan")
    assert code == 0
    assert err.splitlines() == [
        "checking transfer_loss/soft_targets from dakit",
        "checking discriminator/patchgan from dakit",
    ]
    assert "gradient_is_the_derivative" in out
    assert "components: 2" in out
    assert "all passed" in out


def test_a_stage_is_given_small_components(dakit):
    code, out, _ = dakit("check-plugin", "stage/select", "--json")
    assert code == 0
    assert problems(out) == {"stage/select": []}


def test_a_stage_may_be_given_a_component_as_in_a_recipe(dakit):
    code, out, err = dakit(
        "check-plugin",
        "select",
        "--set",
        "selector={use: random, neighbours: 3}",
    )
    assert (code, "all passed" in out) == (0, True), out + err
    code, _, err = dakit("check-plugin", "select", "--set", "selector={use: random, neighbors: 3}")
    assert code == 2
    assert 'selector "random" has no such parameter, did you mean "neighbours"?' in err
    code, _, err = dakit("check-plugin", "select", "--set", "selector={use: patchgan}")
    assert code == 2
    assert 'no selector is called "patchgan"' in err


def test_a_whole_file_with_the_right_check_failed(dakit, plugin):
    code, out, _ = dakit("check-plugin", "--plugin", plugin, "--set", "needs.offset=1.0", "--json")
    assert code == 1
    assert problems(out) == {
        "transfer_loss/good": [],
        "transfer_loss/needs": ["is_zero_where_it_says_so"],
        "transfer_loss/starred": ["signature_is_a_schema"],
    }
    code, out, _ = dakit("check-plugin", "good", "--plugin", plugin, "--set", "offset=0.5")
    assert code == 1
    assert "it is 0.5 there. With `zero_when_equal = True`" in out
    assert "1 failed" in out


def test_a_component_that_lacks_a_parameter_is_told_and_counts_as_failed(dakit, plugin):
    code, out, _ = dakit("check-plugin", "good", "needs", "--plugin", plugin)
    assert code == 1
    assert "offset: transfer_loss Needs needs this parameter (set with --set KEY=VALUE)" in out
    code, out, err = dakit("check-plugin", "needs", "--plugin", plugin)
    assert (code, out) == (2, "")
    assert "offset: transfer_loss Needs needs this parameter" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pachgan"], 'no component or distribution is called "pachgan", did you mean "patchgan"?'),
        (["translator/patchgan"], 'called "translator/patchgan", did you mean "discriminator/patchgan"?'),
        ([], "what to check? A component, KIND/NAME, a distribution, or --plugin FILE"),
        (
            ["patchgan", "--set", "widht=8"],
            '--set widht=8: no component to check has this parameter, did you mean "width"?',
        ),
        (["patchgan", "--set", "width"], "--set width: expected KEY=VALUE"),
        (["patchgan", "--set", "timm.width=8"], "--set timm.width=8: no component to check has this parameter"),
        (["patchgan", "--set", "width=many"], "width: Input should be a valid integer"),
        (["--plugin", "gone.py"], "--plugin gone.py: there is no such file"),
    ],
)
def test_a_mistake_is_named_and_nothing_runs(dakit, arguments, message):
    code, out, err = dakit("check-plugin", *arguments)
    assert (code, out) == (2, "")
    assert message in err
