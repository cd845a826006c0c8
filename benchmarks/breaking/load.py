"""Users who predict, label and look, and keep accounts of everything that was acknowledged to them."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

from benchmarks.breaking.place import CAREFUL, PLAIN, WORDS, Place

MODELS = (PLAIN, CAREFUL)


@dataclass(frozen=True)
class Said:
    """An answer that a user got."""

    id: str
    model: str
    version: int
    sent: datetime
    received: datetime


@dataclass(frozen=True)
class Told:
    """A label that was acknowledged."""

    model: str
    example_id: str
    value: str
    actor: str


@dataclass
class Ledger:
    """What was acknowledged; lists only grow, so that a reader may take what is new."""

    answers: list[Said] = field(default_factory=list)
    labels: list[Told] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    """Seen, by id, with the model."""
    deployments: dict[int, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    failed: list[tuple[float, str]] = field(default_factory=list)
    """Predictions that were refused or not answered: when (monotonic), and the words."""
    refused: int = 0
    """Labels that were not acknowledged."""
    slowest_s: float = 0.0
    """The longest answer of this round."""

    def counts(self) -> dict[str, int]:
        """How much was acknowledged."""
        names = ("answers", "labels", "decisions", "deployments", "jobs")
        return {name: len(getattr(self, name)) for name in names}


@dataclass
class Users:
    """The threads that ask one place."""

    place: Place
    ledger: Ledger
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    fresh: deque[tuple[str, str, str, str]] = field(default_factory=lambda: deque(maxlen=200))
    """(model, prediction, example, truth) to be labelled."""
    threads: list[threading.Thread] = field(default_factory=list)

    def end(self) -> None:
        """Stop, and wait for what is under way: what is acknowledged from now on would be missed by a count."""
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def ask(self, number: int) -> None:
        """Two texts at a time, half of the calls for either model."""
        turn = number
        while not self.stop.is_set():
            turn += 1
            model = MODELS[turn % 2]
            words = [WORDS[(turn + n) % 3] for n in range(2)]
            texts = [f"{word} thing {number} {turn} {n}" for n, (word, _) in enumerate(words)]
            body = {"examples": [{"text": text, "key": text} for text in texts]}
            began, sent = time.monotonic(), datetime.now(UTC)
            try:
                status, answer = self.place.call("POST", f"/models/{model}/predict", body)
                if status != 200:
                    raise ValueError(f"{status}: {answer.get('detail')}")
            except (OSError, HTTPException, ValueError) as error:
                self.ledger.failed.append((began, f"{type(error).__name__}: {error}"))
                self.stop.wait(0.1)
                continue
            received = datetime.now(UTC)
            self.ledger.slowest_s = max(self.ledger.slowest_s, time.monotonic() - began)
            for one, (_, truth) in zip(answer["predictions"], words, strict=True):
                self.ledger.answers.append(Said(one["id"], model, one["model_version"], sent, received))
                self.fresh.append((model, one["id"], one["example_id"], truth))
            self.stop.wait(0.04)

    def label(self, number: int) -> None:
        """What was answered lately."""
        actor = f"labeller {number}"
        dice = random.Random(self.seed + number)
        while not self.stop.wait(0.05):
            try:
                model, prediction, example, truth = self.fresh.pop()
            except IndexError:
                continue
            value = dice.choice(["pos", "neg"]) if dice.random() < 0.05 else truth
            body = {"labels": [{"prediction_id": prediction, "label": value, "actor": actor}]}
            try:
                status, answer = self.place.call("POST", f"/models/{model}/labels", body)
            except (OSError, HTTPException, ValueError):
                self.ledger.refused += 1
                continue
            if status == 200 and answer["accepted"] == 1:
                self.ledger.labels.append(Told(model, example, value, actor))
            else:
                self.ledger.refused += 1

    def look(self) -> None:
        """What the history and the decisions say: whatever was shown once must stay."""
        while not self.stop.wait(0.3):
            for model in MODELS:
                try:
                    status, body = self.place.call("GET", f"/models/{model}/decisions?limit=20")
                    if status == 200:
                        self.ledger.decisions |= {one["id"]: model for one in body["decisions"]}
                    status, body = self.place.call("GET", f"/models/{model}/history?limit=5")
                    if status == 200:
                        self.ledger.deployments |= {one["id"]: model for one in body["deployments"]}
                except (OSError, HTTPException, ValueError):
                    continue

    def retrain(self, model: str) -> None:
        """Ask for it; the job counts as acknowledged when the server says so."""
        answer = self._tell("POST", f"/models/{model}/retrain")
        if answer is not None:
            self.ledger.jobs[answer["id"]] = model

    def rollback(self, model: str) -> None:
        """Ask for it; a refusal is fine, what was acknowledged must be in the history."""
        answer = self._tell("POST", f"/models/{model}/rollback")
        if answer is not None:
            self.ledger.deployments[answer["id"]] = model

    def _tell(self, method: str, path: str) -> dict[str, Any] | None:
        try:
            status, answer = self.place.call(method, path, {})
        except (OSError, HTTPException, ValueError):
            return None
        return answer if status < 300 else None


@contextmanager
def users(place: Place, ledger: Ledger, seed: int, askers: int = 3, labellers: int = 2) -> Iterator[Users]:
    """At work until the block ends."""
    made = Users(place, ledger, seed)
    threads = [threading.Thread(target=made.ask, args=(n,), name=f"asker {n}") for n in range(askers)]
    threads += [threading.Thread(target=made.label, args=(n,), name=f"labeller {n}") for n in range(labellers)]
    threads.append(threading.Thread(target=made.look, name="looker"))
    made.threads = threads
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.end()
