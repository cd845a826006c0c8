"""A training in the worker leaves cores to those who answer, and takes them back."""

from __future__ import annotations

import pytest

from keepfit.training.cores import GiveWay, Usage, others


class Machine:
    """Time goes by as it is told; threads are counted."""

    def __init__(self) -> None:
        self.now = Usage(0.0, 0.0, 0.0)
        self.taken: list[int] = []

    def passes(self, seconds: float, own: float, foreign: float) -> None:
        """`own` and `foreign` cores were busy for so long."""
        self.now = Usage(
            self.now.clock + seconds,
            self.now.busy + seconds * (own + foreign),
            self.now.own + seconds * own,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def training(machine: Machine, most: int, cores: int | None = None) -> GiveWay:
    return GiveWay(most, lambda: machine.now, machine.taken.append, most if cores is None else cores)


def test_a_core_is_left_to_those_who_answer_and_taken_back_when_they_are_done(machine: Machine) -> None:
    training_ = training(machine, 2)
    machine.passes(2.0, 1.2, 0.8)
    training_.on_step_begin()
    machine.passes(2.0, 1.0, 0.9)
    training_.on_step_begin()
    machine.passes(2.0, 1.0, 0.05)
    training_.on_step_begin()
    assert machine.taken == [1, 2]


def test_between_two_looks_nothing_is_changed(machine: Machine) -> None:
    training_ = training(machine, 2)
    for _ in range(9):
        machine.passes(0.1, 1.0, 1.0)
        training_.on_step_begin()
    assert machine.taken == []


def test_one_thread_always_goes_on(machine: Machine) -> None:
    training_ = training(machine, 2)
    machine.passes(2.0, 0.1, 1.9)
    training_.on_step_begin()
    assert machine.taken == [1]


def test_afterwards_all_threads_are_there_again(machine: Machine) -> None:
    training_ = training(machine, 4)
    machine.passes(2.0, 1.0, 3.0)
    training_.on_step_begin()
    training_.on_train_end()
    assert machine.taken == [1, 4]


def test_own_work_is_not_taken_for_that_of_others() -> None:
    assert others(Usage(0.0, 0.0, 0.0), Usage(1.0, 2.0, 2.0)) == 0.0


def test_what_others_take_is_taken_from_the_machine_and_not_from_the_threads(machine: Machine) -> None:
    training_ = training(machine, 8, cores=16)
    for foreign in (7.9, 12.5):
        machine.passes(2.0, 4.0, foreign)
        training_.on_step_begin()
    assert machine.taken == [3]
