from __future__ import annotations

import json

import pytest


def test_the_curve_as_a_table_and_as_json(dakit, toy):
    arguments = ["curve", *toy, "--labels", "2,1,all", "--variant", "fine_tune", "--variant", "cycleat", "--draws", "2"]
    code, out, _ = dakit(*arguments, "--out", "there")
    assert code == 0, out
    lines = out.splitlines()
    (head,) = [n for n, line in enumerate(lines) if line.split()[:4] == ["labels", "per", "class", "1"]]
    assert lines[head].split()[-3:] == ["1", "2", "all"]
    assert lines[head + 1].split()[0] == "fine_tune"
    assert "cycleat against fine_tune: 1: " in out
    code, out, _ = dakit(*arguments, "--out", "there", "--json")
    found = json.loads(out)
    assert [(point["labels"], point["made"]) for point in found["points"]] == [("1", 0), ("2", 0), ("all", 0)]
    assert f"{found['points'][0]['rows']['fine_tune']['macro']:.2f}" in lines[head + 1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("0", '"0": expected whole numbers from 1 on, or all'),
        ("1,two,-3,1.5,²", '"two", "-3", "1.5", "²": expected'),
        ("1,,3", '"": expected'),
        ("1,7", "labels per class: 7: expected numbers from 1 to 2"),
    ],
)
def test_mistakes_in_labels(dakit, toy, labels, told):
    code, _, err = dakit("curve", *toy, "--labels", labels, "--variant", "fine_tune", "--out", "there")
    assert code == 2
    assert told in err
    assert "Traceback" not in err
