"""The answer cache: bounded by bytes, keyed by version and content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keepfit.serving.cache import AnswerCache, Cached, size_of


def answer(value: float = 0.5) -> Cached:
    return Cached(np.array([value, 1 - value], np.float32), np.zeros(8, np.float32), {"length": 1.0})


def test_what_was_put_is_found_again() -> None:
    cache = AnswerCache(10_000)
    kept = answer()
    cache.put(1, "fine", kept)
    assert cache.get(1, "fine") is kept
    assert (cache.hits, cache.misses) == (1, 0)


def test_another_version_does_not_give_the_answer_of_the_first() -> None:
    cache = AnswerCache(10_000)
    cache.put(1, "fine", answer())
    assert cache.get(2, "fine") is None


def test_it_never_holds_more_than_its_bytes_and_the_least_used_leaves() -> None:
    room = 3 * size_of("x", answer())
    cache = AnswerCache(room)
    for text in "abc":
        cache.put(1, text, answer())
    cache.get(1, "a")
    cache.put(1, "d", answer())
    assert cache.bytes <= room
    assert cache.get(1, "b") is None
    assert cache.get(1, "a") is not None


def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    cache = AnswerCache(1000)
    cache.put(1, "x" * 2000, answer())
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_cache_of_no_bytes_is_off() -> None:
    cache = AnswerCache(0)
    cache.put(1, "a", answer())
    assert cache.get(1, "a") is None
    assert cache.misses == 0


def test_forgetting_a_version_frees_what_it_answered() -> None:
    cache = AnswerCache(100_000)
    for version in (1, 2):
        cache.put(version, ("subject", "body"), answer())
    cache.forget(1)
    assert cache.get(1, ("subject", "body")) is None
    assert cache.get(2, ("subject", "body")) is not None


def test_details_count_as_the_bytes_they_state() -> None:
    plain = answer()
    frames = np.zeros(5000, np.uint8)
    assert size_of("x", replace(plain, details=frames)) == size_of("x", plain) + 5000
    assert size_of("x", replace(plain, details="some words")) > size_of("x", plain)


def test_putting_the_same_twice_counts_its_bytes_once() -> None:
    cache = AnswerCache(100_000)
    cache.put(1, "a", answer())
    once = cache.bytes
    cache.put(1, "a", answer())
    assert cache.bytes == once
