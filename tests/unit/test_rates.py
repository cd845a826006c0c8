"""So many requests a minute, and never more memory."""

from __future__ import annotations

import threading

import pytest

from keepfit.app.http.patience import Bodies
from keepfit.app.http.rates import Rates, neighbourhood
from keepfit.errors import Overloaded


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, name: str, per_minute: int, tries: int) -> int:
    got = 0
    for _ in range(tries):
        try:
            rates.take(name, per_minute, "requests")
            got += 1
        except Overloaded:
            pass
    return got


def test_a_minutes_requests_may_come_at_once_and_then_one_by_one() -> None:
    seconds = Seconds()
    rates = Rates(seconds)
    assert taken(rates, "app", 30, 100) == 30
    seconds.now += 2
    assert taken(rates, "app", 30, 100) == 1
    seconds.now += 600
    assert taken(rates, "app", 30, 100) == 30, "a long silence saves up no more than a minute's"


def test_the_refusal_says_when_the_next_request_is_welcome() -> None:
    seconds = Seconds()
    rates = Rates(seconds)
    rates.take("app", 1, "requests")
    with pytest.raises(Overloaded, match="1 a minute") as refused:
        rates.take("app", 1, "requests")
    assert refused.value.retry_after == pytest.approx(60)
    seconds.now += refused.value.retry_after
    rates.take("app", 1, "requests")


def test_names_do_not_share_a_bucket_and_no_limit_is_none() -> None:
    rates = Rates(Seconds())
    assert taken(rates, "a", 5, 10) == 5
    assert taken(rates, "b", 5, 10) == 5
    for _ in range(1000):
        rates.take("c", None, "requests")


def test_memory_is_bounded_however_many_addresses_come() -> None:
    rates = Rates(Seconds(), most=100)
    for number in range(10_000):
        rates.take(f"address {number}", 5, "requests")
    assert len(rates) == 100


def test_many_threads_get_no_more_than_is_allowed() -> None:
    rates, got = Rates(Seconds()), []
    threads = [threading.Thread(target=lambda: got.append(taken(rates, "app", 100, 50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 100


@pytest.mark.parametrize(
    ("address", "place"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"), (None, "unknown"), ("unix:", "unknown")],
)
def test_one_customers_ipv6_addresses_count_as_one(address: str | None, place: str) -> None:
    assert neighbourhood(address) == place


def test_one_slow_caller_holds_half_of_the_threads_and_all_together_not_the_last() -> None:
    bodies = Bodies(8, wait_s=0.01)
    slow = [bodies.turn("slow") for _ in range(4)]
    for turn in slow:
        turn.__enter__()
    with pytest.raises(Overloaded, match="slowly"), bodies.turn("slow"):
        pass
    others = [bodies.turn("other") for _ in range(3)]
    for turn in others:
        turn.__enter__()
    with pytest.raises(Overloaded), bodies.turn("third"):
        pass
    slow[0].__exit__(None, None, None)
    with bodies.turn("third"):
        pass
