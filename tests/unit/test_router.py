"""The router is sticky, and fair to the shares."""

from __future__ import annotations

import pytest

from keepfit.data.records import Traffic
from keepfit.errors import BackendError
from keepfit.serving.router import route

KEYS = [f"user {n}" for n in range(4000)]


def test_one_key_is_always_answered_by_one_version() -> None:
    traffic = Traffic({1: 0.5, 2: 0.5})
    assert [route(key, traffic) for key in KEYS] == [route(key, traffic) for key in KEYS]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_each_version_gets_its_share_of_the_keys(share: float) -> None:
    traffic = Traffic({1: 1 - share, 2: share})
    got = sum(route(key, traffic) == 2 for key in KEYS) / len(KEYS)
    assert abs(got - share) < 0.03


def test_a_growing_share_takes_no_key_away_from_the_challenger() -> None:
    small, large = Traffic({1: 0.9, 2: 0.1}), Traffic({1: 0.5, 2: 0.5})
    assert all(route(key, large) == 2 for key in KEYS if route(key, small) == 2)


def test_a_version_without_share_is_never_asked() -> None:
    traffic = Traffic({1: 1.0, 2: 0.0})
    assert {route(key, traffic) for key in KEYS} == {1}


def test_without_a_deployment_the_error_says_what_to_do() -> None:
    with pytest.raises(BackendError, match="keepfit train"):
        route("any", Traffic())


def test_a_lone_surrogate_in_a_key_is_no_obstacle() -> None:
    assert route("\ud800", Traffic({1: 0.5, 2: 0.5})) in {1, 2}
