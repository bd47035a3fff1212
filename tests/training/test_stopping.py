from __future__ import annotations

import os
import signal

import pytest

from dakit.training.stopping import Stopped, asked_to_stop, signals, stepping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_outside_steps_a_signal_stops_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, signals():
        os.kill(os.getpid(), number)
    assert caught.value.number == number
    assert str(caught.value) == number.name
    assert signal.getsignal(number) is before
    assert not asked_to_stop()


def test_within_steps_it_waits_for_the_end_of_one():
    done = []

    def work():
        with stepping():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(asked_to_stop())
        done.append("not reached")

    with pytest.raises(Stopped), signals():
        work()
    assert done == [True]


def test_a_fault_within_steps_is_not_hidden_and_leaves_nothing_behind():
    @stepping()
    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), signals():
        work()
    with pytest.raises(Stopped), signals():
        os.kill(os.getpid(), signal.SIGINT)


def test_nothing_that_handles_faults_catches_it():
    assert not issubclass(Stopped, Exception)
