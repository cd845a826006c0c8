"""What is promised, while everything is broken on purpose: one fault a round, on the product's own processes.

    python -m benchmarks.faults --rounds 200 [--store sqlite|postgresql] [--kind KIND ...] [--seed 1]

`keepfit up` runs a project with two models of the toy task, one whose versions get all the traffic at once and one
with canaries, under the load of five users who predict and label, and one who looks. In each round a retraining is
asked for, and one thing is broken at a random moment: server, worker, both, or PostgreSQL killed with -9; the records
locked; the disk full (a small tmpfs; where none may be mounted, files that may not grow, which is an approximation);
MLflow's database gone; a clock that jumps (in this process, on a manual clock); a second worker and more watches; a
corrupt version; a challenger that is slow, crashes, or answers with no number; a mail server that hangs. After each
round, and once more at the end, what was acknowledged to the users is held against the records. Everything is on
loopback. Writes benchmarks/results/faults.json (for each store); exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.breaking.checks import Accounts
from benchmarks.breaking.kinds import KINDS, Scene
from benchmarks.breaking.load import MODELS, Ledger, users
from benchmarks.breaking.place import Postgres, running
from benchmarks.results import FOLDER, save, table

TOGETHER = 40
"""Rounds on one project; then a fresh one begins, so that the records stay small."""
END = "at the end"
"""Of a project: what it was asked for has ended, and everything is looked at once more."""
STABLE_S = 10.5
"""A part that lived so long is young again: `keepfit up` counts deaths that follow each other faster."""


@dataclass
class Outcome:
    """What came of one round."""

    kind: str
    seconds: float
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    oldest_ms: float = 0.0
    back_s: float = 0.0
    slowest_s: float = 0.0
    failed: int = 0
    refused: int = 0
    """Labels that were not acknowledged."""
    notes: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)


def planned(rounds: int, store: str, kinds: Sequence[str], dice: random.Random) -> dict[str, list[str]]:
    """The kinds of the rounds in a random order, by the world that they need."""
    names = [name for name in kinds if store in KINDS[name].stores]
    total = sum(KINDS[name].weight for name in names)
    exact = {name: rounds * KINDS[name].weight / total for name in names}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(names, key=lambda n: counts[n] - exact[n])[: rounds - sum(counts.values())]:
        counts[name] += 1
    order = [name for name, count in counts.items() for _ in range(count)]
    dice.shuffle(order)
    worlds: dict[str, list[str]] = {}
    for name in order:
        worlds.setdefault(KINDS[name].world, []).append(name)
    return worlds


def play(place_scene: Scene, accounts: Accounts, name: str) -> Outcome:
    """One round."""
    scene, kind, dice = place_scene, KINDS[name], place_scene.dice
    ledger, began = scene.ledger, time.monotonic()
    asked = dice.choice(MODELS)
    if dice.random() < 0.7:
        scene.users.retrain(asked)
    if dice.random() < 0.15:
        scene.users.rollback(asked)
    time.sleep(dice.uniform(0, 1.2))
    ledger.slowest_s, failures, refused = 0.0, len(ledger.failed), ledger.refused
    outcome = Outcome(name, 0.0)
    try:
        kind.break_it(scene)
        outcome.back_s = scene.place.recover()
        wrong, lost = accounts.after(scene.killed, scene.waiting)
        outcome.wrong, outcome.lost, outcome.oldest_ms = [*scene.wrong, *wrong], lost.count, lost.oldest_ms
    except Exception as error:
        outcome.wrong = [*scene.wrong, f"{type(error).__name__}: {error}"]
    failed = ledger.failed[failures:]
    outcome.failed, outcome.slowest_s, outcome.notes = len(failed), ledger.slowest_s, scene.notes
    outcome.refused = ledger.refused - refused
    if kind.answers and failed:
        outcome.wrong.append(f"{len(failed)} requests failed while answering should go on, such as {failed[0][1]}")
    outcome.seconds = time.monotonic() - began
    return outcome


def rounds_of(root: Path, world: str, names: list[str], postgres: Postgres | None, seed: int) -> Iterator[Outcome]:
    """Rounds on one project."""
    dice, ledger = random.Random(seed), Ledger()
    with hole() as port, running(root, world, postgres, port) as place, users(place, ledger, seed) as crowd:
        accounts = Accounts(place, ledger)
        while names:
            name = next_of(names, place.lived)
            yield play(Scene(place, crowd, ledger, dice), accounts, name)
            if place.up.poll() is not None:
                yield Outcome(name, 0.0, [f"keepfit up has ended: {place.tail()}"])
                return
        crowd.end()
        last = Outcome(END, 0.0, acknowledged=ledger.counts())
        try:
            last.wrong = accounts.finally_()
            last.wrong += place.stop()
        except Exception as error:
            last.wrong.append(f"{type(error).__name__}: {error}")
        accounts.close()
        yield last


def next_of(names: list[str], lived: Any) -> str:
    """The next round whose victims have lived long enough; waits where there is no other."""
    while True:
        for place, name in enumerate(names):
            if all(lived(victim) > STABLE_S for victim in KINDS[name].victims):
                return names.pop(place)
        time.sleep(0.2)


@contextlib.contextmanager
def hole() -> Iterator[int]:
    """A port where calls are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def listen() -> None:
            taken = []
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    taken.append(server.accept()[0])
            for one in taken:
                one.close()

        server.settimeout(0.2)
        thread = threading.Thread(target=listen, name="hole")
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            stop.set()
            thread.join()


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row for each kind."""
    rows = []
    for name in dict.fromkeys(one.kind for one in outcomes):
        mine = [one for one in outcomes if one.kind == name]
        row = {
            "kind": name, "rounds": len(mine), "broken": sum(bool(one.wrong) for one in mine),
            "lost": sum(one.lost for one in mine), "most lost": max(one.lost for one in mine),
            "oldest lost ms": max(one.oldest_ms for one in mine), "failed": sum(one.failed for one in mine),
            "labels refused": sum(one.refused for one in mine),
            "slowest answer s": round(max(one.slowest_s for one in mine), 2),
            "back after s": round(max(one.back_s for one in mine), 1),
        }  # fmt: skip
        rows.append(row)
    return rows


def measure(rounds: int, store: str, kinds: Sequence[str], seed: int) -> dict[str, Any]:
    """Every round; prints each."""
    plan = planned(rounds, store, kinds, random.Random(seed))
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keepfit-faults-")))
        postgres = Postgres() if store == "postgresql" else None
        if postgres is not None:
            stack.callback(postgres.stop)
        for world, names in plan.items():
            for start in range(0, len(names), TOGETHER):
                group = names[start : start + TOGETHER]
                for one in rounds_of(root, world, group, postgres, seed * 1000 + len(outcomes)):
                    outcomes.append(one)
                    tell(one, len(outcomes))
    return told(outcomes) | {"store": store, "seed": seed, "seconds": round(time.monotonic() - began)}


def told(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The result, as it is written."""
    played = [one for one in outcomes if one.kind != END]
    kills = [one for one in played if KINDS[one.kind].victims or one.kind == "database"]
    broken = [one for one in outcomes if one.wrong]
    acknowledged: Counter[str] = Counter()
    for one in outcomes:
        acknowledged.update(one.acknowledged)
    names = dict.fromkeys(name for one in played for name in one.notes)
    return {
        "rounds": len(played), "broken": len(broken), "bound": bound(len(played), len(broken)),
        "kills": len(kills), "bound_of_kills": bound(len(kills), sum(bool(one.wrong) for one in kills)),
        "acknowledged": dict(acknowledged), "kinds": summary(outcomes),
        "most": {name: max(one.notes.get(name, 0.0) for one in played) for name in names},
        "problems": [f"{one.kind}: {words}" for one in broken for words in one.wrong][:20],
    }  # fmt: skip


def bound(rounds: int, broken: int) -> str:
    """What so many rounds say of the next one: the rule of three where nothing was broken."""
    if not rounds:
        return "no rounds"
    if broken:
        return f"{broken} of {rounds} broke a promise"
    return f"0 of {rounds}: with 95 % confidence below {100 * min(3 / rounds, 1):.2g} % a round"


def tell(one: Outcome, number: int) -> None:
    """One line of progress."""
    words = f"{number:4} {one.kind:12} {one.seconds:5.1f} s, back after {one.back_s:4.1f} s"
    words += f", slowest {one.slowest_s:4.2f} s, {one.failed} failed, {one.refused} labels refused, {one.lost} lost"
    print(words + "".join(f"\n     BROKEN: {reason}" for reason in one.wrong[:5]), flush=True)


def main() -> None:
    """Break everything, print, write; exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--kind", choices=[*KINDS], action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # so that every child is ended on the way out
    file = FOLDER / "faults.json"
    kept: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found = measure(asked.rounds, asked.store, asked.kind or [*KINDS], asked.seed)
    table(f"faults on {asked.store}: {found['bound']}", found["kinds"])
    if not asked.dry:
        save("faults", {**{name: kept[name] for name in ("sqlite", "postgresql") if name in kept}, asked.store: found})
    sys.exit(bool(found["broken"]))


if __name__ == "__main__":
    main()
