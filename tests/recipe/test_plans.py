from __future__ import annotations

import pytest

from dakit.errors import DakitError
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import Reference


def test_a_reference_reads_as_it_is_written_in_a_recipe():
    assert str(Reference("target", "train")) == "target.train"
    assert str(Reference("stage_1", "")) == "stage_1"  # the whole of it


def test_which_weights_a_row_evaluates():
    recipe = load_recipe("cycleat_digits", profile="smoke", overrides=["adapt.choose=validation"])
    assert {row: recipe.plan(row).weights for row in ("cycleat", "s2t", "f_w")} == {
        "cycleat": "validation", "s2t": "last", "f_w": "last",
    }  # fmt: skip


def test_what_is_tested_is_the_role_whose_images_the_last_stage_evaluates():
    plan = load_recipe("cycleat_sfew", profile="smoke").plan("s2t")
    assert plan.tested is plan.data["target"]


def test_an_unknown_row_is_named_with_the_nearest():
    recipe = load_recipe("cycleat_sfew", profile="smoke")
    assert recipe.plan("cycleat").row == "cycleat"
    with pytest.raises(DakitError, match='no variant "cyclat", did you mean "cycleat"'):
        recipe.plan("cyclat")
