"""What the choice of the next call does to a queue of texts: as they came, or the oldest with those of like length.

    KEEPFIT_DATA=FOLDER python -m benchmarks.live.queueing [--clients 8 32 128] [--lanes 2]

A simulation, not a measurement: clients in a closed loop, lanes of one thread each, a call costs CALL_US and TOKEN_US
for each padded token (as a lane took on the machine of docs/performance.md), and Python hands out one answer after the
other. It says how much of the engine a text takes, and how long people wait, under each choice; nothing is written.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.live import models, texts
from benchmarks.results import table
from keepfit.tasks.loading import load_answering
from keepfit.tasks.text.cuts import cut, together

CALL_US, TOKEN_US = 1_500.0, 66.0
PYTHON_MS = 1.0
LONGEST = models.MAX_TOKENS
SECONDS = 20.0
ASKS: list[float] = []
"""An event that is no call's end: somebody asks."""

Choice = Callable[[Sequence[int], Sequence[float]], Sequence[int]]
"""Lengths of those that wait, oldest first, and for how many ms: the places of the next call."""


def as_they_came(lengths: Sequence[int], waited: Sequence[float]) -> Sequence[int]:
    """Up to half of what waits, but 256 tokens at least."""
    most, total, count = max(256, sum(lengths) // 2), 0, 0
    while count < len(lengths) and (not count or total + lengths[count] <= most):
        total += lengths[count]
        count += 1
    return range(count)


def like(lengths: Sequence[int], waited: Sequence[float]) -> Sequence[int]:
    """As the product chooses."""
    return together(lengths, LONGEST)


def cheapest(patience_ms: float) -> Choice:
    """The cheapest call of all, whoever is the oldest, unless that one has waited for so long."""

    def choose(lengths: Sequence[int], waited: Sequence[float]) -> Sequence[int]:
        if waited[0] > patience_ms:
            return together(lengths, LONGEST)
        tried = []
        for first in range(len(lengths)):
            order = [first, *(place for place in range(len(lengths)) if place != first)]
            places = [order[place] for place in together([lengths[place] for place in order], LONGEST)]
            real = sum(lengths[place] for place in places)
            tried.append((cost_us([lengths[place] for place in places]) / real, places))
        return sorted(min(tried)[1])

    return choose


CHOICES: dict[str, Choice] = {
    "as they came": as_they_came, "the oldest with its like": like, "cheapest, 60 ms": cheapest(60.0),
    "cheapest, 100 ms": cheapest(100.0),
}  # fmt: skip


def cost_us(lengths: Sequence[int]) -> float:
    """Of the calls that these texts are cut into."""
    return sum(CALL_US + TOKEN_US * len(part.rows) * part.width for part in cut(lengths, LONGEST))


def simulated(choose: Choice, lengths: Sequence[int], clients: int, lanes: int) -> dict[str, float]:
    """The figures of one choice."""
    dice, events, number = random.Random(0), [(0.0, place, ASKS) for place in range(clients)], clients
    waiting: list[tuple[int, float]] = []
    idle, free_at, engine_us, latencies, calls = lanes, 0.0, 0.0, list[float](), 0
    heapq.heapify(events)
    while events:
        now, _, done = heapq.heappop(events)
        if now > 1000 * SECONDS:
            break
        if done is ASKS:
            waiting.append((dice.choice(lengths), now))
        else:
            idle += 1
            for since in done:
                latencies.append(now - since)
                free_at = max(free_at, now) + PYTHON_MS
                number += 1
                heapq.heappush(events, (free_at, number, ASKS))
        while idle and waiting:
            places = choose([length for length, _ in waiting[:64]], [now - since for _, since in waiting[:64]])
            took = cost_us([waiting[place][0] for place in places])
            since = [waiting[place][1] for place in places]
            waiting = [one for place, one in enumerate(waiting) if place not in set(places)]
            idle, engine_us, calls, number = idle - 1, engine_us + took, calls + 1, number + 1
            heapq.heappush(events, (now + took / 1000, number, since))
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "engine_ms": round(engine_us / 1000 / len(latencies), 2), "texts_a_call": round(len(latencies) / calls, 1),
        "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1),
    }  # fmt: skip


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--lanes", type=int, default=2)
    asked = parser.parse_args()
    model = load_answering(models.model_folder())
    rows = texts.read().asked["tweets"][:3000]
    lengths = [min(int(cost), LONGEST) for cost in model.prepare([text for text, _ in rows]).costs]
    found = [
        {"clients": clients, "choice": name, **simulated(choose, lengths, clients, asked.lanes)}
        for clients in asked.clients
        for name, choose in CHOICES.items()
    ]
    table("one queue of tweets, simulated", found)


if __name__ == "__main__":
    main()
