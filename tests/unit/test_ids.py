"""Ids are random, never twice the same, also from many threads and after a fork."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from keepfit.data.records import new_id


def test_ids_have_128_bits_and_are_never_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id(), range(5_000)))
    assert len(set(ids)) == len(ids)
    assert {len(id_) for id_ in ids} == {32}
    bits = "".join(f"{int(id_, 16):0128b}" for id_ in ids)
    assert abs(bits.count("1") / len(bits) - 0.5) < 0.005


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_repeat_its_parents_ids() -> None:
    new_id()
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, new_id().encode())
        os._exit(0)
    os.wait()
    assert os.read(read, 32).decode() != new_id()
