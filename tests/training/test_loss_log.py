from __future__ import annotations

from dakit.training.loss_log import LossLog


def test_a_line_holds_the_means_since_the_last_one():
    log = LossLog(steps=1001)  # a line every 5 steps, and at the end
    for done in range(1, 1002):
        log.add(done, {"loss": float(done)})
    assert log.history["step"] == [*range(5, 1001, 5), 1001]
    assert log.history["loss"] == [*(float(n - 2) for n in range(5, 1001, 5)), 1001.0]


def test_a_log_that_goes_on_is_the_unbroken_one():
    whole, first = LossLog(steps=400), LossLog(steps=400)
    values = [{"a": n / 7, "b": -n / 3} for n in range(1, 401)]
    for done, value in enumerate(values, 1):
        whole.add(done, value)
    for done, value in enumerate(values[:77], 1):
        first.add(done, value)
    second = LossLog(steps=400)
    second.load_state_dict(first.state_dict())
    for done, value in enumerate(values[77:], 78):
        second.add(done, value)
    assert second.history == whole.history
