"""Histograms are cumulative, as Prometheus wants them."""

from __future__ import annotations

from keepfit.app.http.metrics import buckets
from keepfit.serving.batching import BUCKETS, BatchCounts


def test_buckets_are_cumulative_and_end_with_every_call() -> None:
    counts = BatchCounts(contents=1007, calls=4, seconds=0.1, by_size={1: 2, 8: 1})
    found = dict(buckets(counts))
    assert found["1.0"] == 2
    assert found["4.0"] == 2
    assert found["8.0"] == 3
    assert found[str(float(BUCKETS[-1]))] == 3
    assert found["+Inf"] == 4
