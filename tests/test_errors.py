from __future__ import annotations

import pytest

from dakit.errors import DakitError, RecipeError, did_you_mean


def test_the_nearest_name_is_offered():
    assert did_you_mean("tranlator", ["translator", "classifier"]) == ', did you mean "translator"?'


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([], "; there are none"),
        (["b", "a"], "; there are: a, b"),
        ([f"n{i:02d}" for i in range(20)], "; there are: " + ", ".join(f"n{i:02d}" for i in range(20))),
        (
            [f"n{i:02d}" for i in range(23)],
            "; there are: " + ", ".join(f"n{i:02d}" for i in range(20)) + " and 3 more",
        ),
    ],
)
def test_without_a_near_one_the_choices_are_listed(choices, expected):
    assert did_you_mean("zzzzzz", choices) == expected


def test_a_recipe_error_has_one_line_for_each_problem():
    error = RecipeError(["first", "second"])
    assert isinstance(error, DakitError)
    assert error.problems == ("first", "second")
    assert str(error) == "first\nsecond"
