from __future__ import annotations

import json


def test_it_is_printed_with_the_plugins_of_a_file(dakit, toys):
    code, out, err = dakit("schema", "--plugin", toys)
    assert (code, err) == (0, "")
    assert "toy_train" in json.loads(out)["$defs"]["stage"]["properties"]["do"]["enum"]


def test_a_plugin_that_is_no_plugin(dakit):
    code, out, err = dakit("schema", "--plugin", "gone.py")
    assert (code, out) == (2, "")
    assert "--plugin gone.py: there is no such file" in err
