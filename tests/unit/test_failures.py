"""What versions could not do is remembered, added up, written aside; and who fails again and again is asked no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keepfit.data.store import RecordStore
from keepfit.serving.failures import OUT, Failures

NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        yield opened


@pytest.fixture
def failures(store: RecordStore) -> Failures:
    return Failures(store, "m", "here")


def test_the_same_failure_is_one_row_with_a_count(failures: Failures, store: RecordStore) -> None:
    failures.note(2, "answer", "first", NOW, 3)
    failures.note(2, "answer", "then", NOW)
    failures.refresh()
    (row,) = store.failures("m", NOW)
    assert (row.count, row.message, row.worker) == (4, "then", "here")
    failures.refresh()
    assert len(store.failures("m", NOW)) == 1, "what is written is not written again"
    assert store.count_failures("m", 2, NOW, ["answer"]) == 4
    assert store.count_failures("m", 2, NOW, ["slow"]) == 0
    assert store.count_failures("m", 2, NOW + timedelta(seconds=1), ["answer"]) == 0


def test_who_fails_in_a_row_is_out_until_a_deployment_wants_it_again(failures: Failures, store: RecordStore) -> None:
    for _ in range(OUT):
        assert not failures.out(2)
        failures.note(2, "answer", "no", NOW)
    assert failures.out(2)
    failures.well(2)
    assert failures.out(2), "a late answer does not bring it back"
    failures.refresh()
    assert {row.kind for row in store.failures("m", NOW)} == {"answer", "out"}
    failures.forget([2])
    assert not failures.out(2)


def test_an_answer_between_two_failures_breaks_the_row(failures: Failures) -> None:
    for _ in range(3 * OUT):
        failures.note(2, "answer", "no", NOW)
        failures.well(2)
    assert not failures.out(2)


def test_while_the_store_is_away_failures_wait(tmp_path: Path) -> None:
    file = tmp_path / "keepfit.db"
    with RecordStore.open(f"sqlite:///{file}") as store:
        failures = Failures(store, "m", "here")
        failures.note(2, "load", "gone", NOW)
        file.rename(tmp_path / "away.db")
        failures.refresh()
        (tmp_path / "away.db").rename(file)
        failures.refresh()
        assert [row.kind for row in store.failures("m", NOW)] == ["load"]
