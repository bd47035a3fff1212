from __future__ import annotations

import pytest

from dakit.recipe.sections import DataRole, DataSettings, Published, Repetitions, Root, root_faults, section_faults

WHOLE = {"recipe": "r", "method": "m", "data": {}, "stages": {}}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"title": "A title", "base": "other", "rows": ["m"], "seeds": ["later"], "pictures": []}, None),
        ({"titel": "A"}, ("titel", 'a recipe has no such key, did you mean "title"?')),
        ({"title": ["A"]}, ("title", "must be a text, not ['A']")),
        ({"data": 3}, ("data", "must be a mapping, not 3")),
        ({"observers": {}}, ("observers", "must be a list, not {}")),
        ({"rows": "m"}, ("rows", "must be a list, not 'm'")),
        ({"rows": ["m", 3]}, ("rows", "must be a list of names, not ['m', 3]")),
        ({"recipe": "../up"}, ("recipe", "a name is letters, digits, _ and -, not '../up'")),
        ({"recipe": 3}, ("recipe", "must be a text, not 3")),
        ({"method": "é"}, ("method", "a name is letters, digits, _ and -, not 'é'")),
    ],
)
def test_the_top_of_a_recipe(changed, fault):
    assert list(root_faults(WHOLE | changed)) == ([] if fault is None else [fault])


def test_everything_that_is_wrong_at_the_top_is_told_at_once_and_each_key_once():
    found = dict(root_faults({"title": 3, "rows": [1, 2], "more": 1, "data": {}}))
    assert found.keys() == {"recipe", "method", "stages", "title", "rows", "more"}
    assert [found[key] for key in ("recipe", "method", "stages")] == ["is missing"] * 3
    assert len(list(root_faults({"rows": [1, 2, 3]}, part=True))) == 1


def test_nothing_is_missing_in_a_recipe_that_lies_over_another():
    assert list(root_faults({"recipe": "r"}, part=True)) == []
    assert [key for key, _ in root_faults({"recipe": "r", "titel": 3}, part=True)] == ["titel"]


SIZE = "must be the height and width of the images in pixels"


@pytest.mark.parametrize(
    ("model", "given", "faults"),
    [
        (DataSettings, {"size": 4}, {}),
        (DataSettings, {"size": 4, "classes": None, "on_bad_image": "skip"}, {}),
        (DataSettings, {}, {"size": f"{SIZE}, not None"}),
        (DataSettings, {"size": 0}, {"size": f"{SIZE}, not 0"}),
        (DataSettings, {"size": 4.0}, {"size": f"{SIZE}, not 4.0"}),
        (DataSettings, {"size": True}, {"size": f"{SIZE}, not True"}),
        (DataSettings, {"size": 4, "classes": "ab"}, {"classes": "must be a list of names, not 'ab'"}),
        (DataSettings, {"size": 4, "classes": ["a", 1]}, {"classes": "must be a list of names, not ['a', 1]"}),
        (DataSettings, {"size": 4, "classes": []}, {"classes": "must be at least two different names, not []"}),
        (DataSettings, {"size": 4, "classes": ["a"]}, {"classes": "must be at least two different names, not ['a']"}),
        (
            DataSettings,
            {"size": 4, "classes": ["a", "b", "a"]},
            {"classes": "must be at least two different names, not ['a', 'b', 'a']"},
        ),
        (DataSettings, {"size": 4, "on_bad_image": "x"}, {"on_bad_image": "must be error or skip, not 'x'"}),
        (DataRole, {}, {}),
        (DataRole, {"split": {"folds": 2}, "unlabelled": True}, {}),
        (DataRole, {"split": 0.2}, {"split": "must be a mapping such as {holdout: 0.2}, not 0.2"}),
        (DataRole, {"split": None}, {"split": "must be a mapping such as {holdout: 0.2}, not None"}),
        (DataRole, {"unlabelled": 1}, {"unlabelled": "must be true or false, not 1"}),
        (Repetitions, {"seeds": [3, 0]}, {}),
        *(
            (
                Repetitions,
                {"seeds": wrong},
                {"seeds": f"must be a list of different whole numbers from 0 on, not {wrong}"},
            )
            for wrong in ([], [0, 0], [-1], [True], [1.0])
        ),
        (Published, {"numbers": {"a": 1, "b": 2.5}}, {}),
        (Published, {"numbers": {"a": True}}, {"numbers": "must be a mapping from class to percent, not {'a': True}"}),
        (Published, {"numbers": [1]}, {"numbers": "must be a mapping from class to percent, not [1]"}),
    ],
)
def test_a_section_says_what_it_must_be(model, given, faults):
    assert dict(section_faults(model, given)) == faults


def test_the_top_has_its_keys_in_the_order_in_which_people_write_them():
    assert list(Root.model_fields)[:3] == ["recipe", "title", "method"]
