from __future__ import annotations

import logging
import subprocess
import sys

from dakit.interfaces import JobInfo
from dakit.pipeline.log import Log
from dakit.pipeline.run import run

JOB = JobInfo("adapt", "train_classifier", "cycleat", 0, 1, 2, 5)


def test_every_job_is_told_when_it_starts_and_when_it_is_done(caplog, load, tmp_path):
    with caplog.at_level(logging.INFO, "dakit"):
        outcome = run(load(), rows=["s2t"], out=tmp_path / "out")
    told = [record.getMessage() for record in caplog.records]
    started = [text for text in told if text.endswith(": started")]
    finished = [text for text in told if "finished" in text]
    assert len(started) == len(finished) == outcome.made == 3
    assert told[0] == "toy: 3 results are needed"
    assert started[0] == "[1/3] pretrain (for s2t, seed 0, fold 0): started"
    assert finished[-1].startswith("[3/3] evaluate (for s2t, seed 0, fold 1): finished, ")
    assert {record.name for record in caplog.records} == {"dakit"}
    assert {record.levelname for record in caplog.records} == {"INFO"}
    caplog.clear()
    with caplog.at_level(logging.INFO, "dakit"):
        run(load(), rows=["s2t"], out=tmp_path / "out")
    assert [record.getMessage() for record in caplog.records] == ["toy: 3 results are needed"]


def test_every_warning_is_told_once(caplog):
    log = Log()
    log.message("a note")
    log.message("warning: it may be worth little")
    log.stage_failed(JOB, ValueError("x"))
    log.warn_of(["adapt (for cycleat, seed 0, fold 1): it may be worth little", "another one"])
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", "it may be worth little"),
        ("ERROR", "[2/5] adapt (for cycleat, seed 0, fold 1): ValueError: x"),
        ("WARNING", "another one"),
    ]


def test_nothing_is_printed_until_the_caller_sets_a_log_up():
    source = "import dakit\nfrom dakit.pipeline.log import Log\nlog = Log()\nlog.message('warning: x')\n"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
