"""The values that flow through keepfit and are stored: examples, predictions, labels, traffic, events."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.decision import Decision

_CONTENT_HASH = re.compile(r"[0-9a-f]{32}")


class _Randomness:
    """The system's randomness, fetched for many ids at once: each fetch is a call to the kernel."""

    def __init__(self) -> None:
        self._lock, self._left = threading.Lock(), b""

    def take(self, n: int) -> bytes:
        """n bytes that nobody got before."""
        with self._lock:
            if len(self._left) < n:
                self._left = os.urandom(256 * n)
            taken, self._left = self._left[:n], self._left[n:]
            return taken

    def forget(self) -> None:
        """What a forked process has in common with its parent must not be used twice."""
        self._lock, self._left = threading.Lock(), b""


_RANDOMNESS = _Randomness()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOMNESS.forget)


def new_id() -> str:
    """A fresh random id (128 bits, hex)."""
    return _RANDOMNESS.take(16).hex()


def text_group(text: str) -> str:
    """The hash of a normalised text: the same for texts that differ in case, spacing or Unicode form only.

    >>> text_group("Good  day") == text_group("good day ")
    True
    """
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()[:32]


_WITHHELD = "(text not kept) "
EMBEDDED = "embedded"
"""The measure, 0, of an answer whose embedding is not kept: it stands for none in windows."""


def withheld(group: str) -> str:
    """What is stored in the place of a text that must not be kept."""
    return _WITHHELD + group


def is_withheld(content: Any) -> bool:
    """Whether it stands in the place of a text that was not kept.

    >>> is_withheld(withheld("0f")), is_withheld("a text")
    (True, False)
    """
    return isinstance(content, str) and content.startswith(_WITHHELD)


def is_content_hash(group: str) -> bool:
    """Whether a group is `text_group`'s: then all in it is alike. Others (a video, a conversation) hold what is not.

    >>> is_content_hash(text_group("a text")), is_content_hash("conversation-7")
    (True, False)
    """
    return _CONTENT_HASH.fullmatch(group) is not None


@dataclass(frozen=True)
class Example:
    """One input. `content` is what the task's model reads: for text a str, or a tuple of str for several columns."""

    content: Any
    time: datetime
    id: str = field(default_factory=new_id)
    key: str | None = None
    """What stays together: a user, a ticket queue, a camera. Routing is sticky by it."""
    context: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    """What must not be split between train and test; None means: derived from the content."""

    def group_or_default(self) -> str:
        """The group, or the hash of the normalised content."""
        if self.group is not None:
            return self.group
        parts = self.content if isinstance(self.content, tuple) else (self.content,)
        return text_group("\x1f".join(str(p) for p in parts))


ABSTAINED = "abstained"
"""The measure of an answer that gave no label: the model's score was too low."""
MS = "ms"
"""The measure of how many milliseconds an answer took, its wait included; of calls with one content."""

STREAM = "stream"
"""The stage of what was said of a live camera: nobody can look at its frames any more."""
FIRST = "first"
"""The stage of what a version's first stage was sure of: it has no embedding, and its scores are the first stage's."""
CONTROL = "control"
"""The measure that is 1 of answers drawn by lot to be the full model's, whatever they are, and 0 of the others.

Answers without it were given while every answer was the full model's."""
FIRST_SURE, FIRST_AGREED = "first_sure", "first_agreed"
"""Measures of a drawn answer: the first stage's top score, and 1 where it would have said the same, else 0."""


UNWRITTEN = timedelta(seconds=1)
"""Answers younger than this may not be written yet, so whoever counts answers leaves them for the next time."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one version answered for one example."""

    example_id: str
    model_version: int
    labels: tuple[str, ...]
    """The classes, in the order of `scores`."""
    scores: NDArray[np.float32]
    """Probabilities, shape (k,)."""
    embedding: NDArray[np.float32]
    """Shape (d,); stored as float16. Of the stage "first" shape (0,): no network has seen the content."""
    time: datetime
    id: str = field(default_factory=new_id)
    key: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    """Cheap facts of the input that the model's tokenizer knows: `length` (tokens), `unknown` (share of unknown)."""
    stage: str = "model"
    """Who answered: model, cache, first (its first stage), stream (of a live camera, whose frames are not kept)."""
    shadow: bool = False
    request: str | None = None
    """The id of the HTTP request that asked, as its answer and the log name it."""

    @property
    def label(self) -> str:
        """The class with the highest score (the first of equals)."""
        return self.labels[int(np.argmax(self.scores))]

    @property
    def confidence(self) -> float:
        """The highest score."""
        return float(np.max(self.scores))

    @property
    def stands_for_all(self) -> bool:
        """Whether it is the full model's and one of a fair sample; behind a first stage only what was drawn is."""
        return self.stage != FIRST and self.measures.get(CONTROL, 1.0) > 0 and self.measures.get(EMBEDDED, 1.0) > 0


class Source(StrEnum):
    """How a label came about; see docs/design.md: asked and complete ones measure, volunteered ones only train."""

    ASKED = "asked"
    COMPLETE = "complete"
    VOLUNTEERED = "volunteered"
    IMPORTED = "imported"
    """Came with the training file."""


MEASURING = frozenset({Source.ASKED, Source.COMPLETE})


@dataclass(frozen=True)
class Label:
    """What was true of one example. A later label of the same actor replaces the earlier one; both are kept."""

    example_id: str
    value: str
    time: datetime
    source: Source
    actor: str = "anonymous"
    propensity: float | None = None
    """The chance with which we asked for this label; None unless asked."""
    prediction_id: str | None = None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True)
class Window:
    """Half open: `start` is inside, `end` is not."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True)
class LabelledExample:
    """An example with the label that counts for training (latest; asked before complete before volunteered)."""

    example: Example
    label: Label


@dataclass(frozen=True)
class QueueItem:
    """An example whose label was asked for, with the chance with which it was drawn."""

    id: str
    model: str
    prediction_id: str
    example: Example
    propensity: float
    reason: str
    asked_at: datetime
    label_set: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    """The parts of the queue that drew it, each with its chance: `uniform`, `disagreement`, `uncertain`, or `audit`."""


UNIFORM, DISAGREEMENT, UNCERTAIN = "uniform", "disagreement", "uncertain"
"""The parts of the label queue: every answer alike, where two versions disagree, where the model is unsure."""
AUDIT = "audit"
"""The part of the queue that looks for errors that silence has confirmed; answered by the item's own id alone."""


@dataclass(frozen=True)
class Traffic:
    """Shares of live requests by version, and versions that are asked in the shadow.

    >>> Traffic({1: 0.9, 2: 0.1}).shares[2]
    0.1
    """

    shares: Mapping[int, float] = field(default_factory=dict)
    shadow: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"shares must add up to one: {dict(self.shares)}")

    @property
    def versions(self) -> frozenset[int]:
        """Every version that must be loaded."""
        return frozenset(self.shares) | frozenset(self.shadow)


@dataclass(frozen=True)
class Cause:
    """Why a deployment is made, as its history will say it."""

    actor: str
    reason: str
    kind: str = "deploy"
    """deploy, rollback, promote, or rollout (a step of one that is not at its end)."""
    decision_id: str | None = None
    """The judgement that allowed it."""
    token: str | None = None
    """The same token deploys once, however often a step is repeated."""
    action: str | None = None
    """What the audit calls it; the kind unless given."""


@dataclass(frozen=True)
class Deployment:
    """One row of the append-only history: from `at` on, this traffic was wanted."""

    id: int
    model: str
    at: datetime
    actor: str
    reason: str
    traffic: Traffic
    kind: str = "deploy"
    """deploy, rollback, promote, or rollout."""
    decision_id: str | None = None
    applied: tuple[tuple[str, datetime], ...] = ()
    """(worker, when) for each server that serves it."""
    token: str | None = None
    """What made it once only, as its cause gave it."""


@dataclass(frozen=True)
class Failure:
    """What a version could not do, noted by the server that asked it."""

    version: int
    at: datetime
    kind: str
    """load (it could not be brought up), answer (it raised, or gave what is no number), slow (too late), out (it failed
    again and again, so this server asks it no more)."""
    message: str
    worker: str = "server"
    count: int = 1


@dataclass(frozen=True)
class StoredDecision:
    """A decision as it lies in the store."""

    id: str
    model: str
    at: datetime
    subject: str
    """Who judged what: "trigger", "gate v3", "rollout v3", "retrain"."""
    decision: Decision


@dataclass(frozen=True)
class Event:
    """Something that happened outside, or a wish of a person: new data, upstream change, release, retrain."""

    id: str
    model: str
    at: datetime
    kind: str
    actor: str = "anonymous"
    details: Mapping[str, Any] = field(default_factory=dict)
    handled_by: str | None = None
    """The id of the decision or job that took it up; None while it waits."""


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """A retraining or a batch file: asked for by anyone, done by the worker."""

    id: str
    model: str
    kind: str
    """retrain or batch."""
    at: datetime
    state: JobState = JobState.WAITING
    request: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    step: str = ""
    """The step under way, for people."""
    finished_at: datetime | None = None
