from __future__ import annotations

import json


def test_a_run_is_verified_damaged_and_made_anew(dakit, toy):
    assert dakit("run", *toy, "--out", "runs", "--variant", "s2t")[0] == 0
    code, out, err = dakit("verify", "runs")
    assert (code, err) == (0, "")
    assert "pretrain-" in out
    assert "DAMAGED" not in out
    rows = json.loads(dakit("verify", "runs", "--json")[1])
    assert {row["folder"].rsplit("-", 1)[0] for row in rows} == {"pretrain", "evaluate"}
    assert all(row["complete"] and row["damage"] == [] and row["files"] == 3 for row in rows if "pretrain" in str(row))

    from pathlib import Path

    (path,) = Path("runs/store").glob("pretrain-*/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = dakit("verify", "runs")
    assert code == 1
    assert out.count("DAMAGED: 1") == 1
    assert f"{path}: is not what was written" in err
    assert "--fresh pretrain" in err
    assert dakit("verify", "runs", "--json")[0] == 1
    assert dakit("run", *toy, "--out", "runs", "--variant", "s2t", "--fresh", "pretrain")[0] == 0
    assert dakit("verify", "runs")[0] == 0


def test_a_folder_that_is_not_there(dakit):
    code, out, err = dakit("verify", "nowhere")
    assert (code, out) == (2, "")
    assert "nowhere/store: there is no such folder; expected that of a run" in err
