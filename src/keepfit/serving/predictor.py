"""Predictor: requests in, recorded answers out, for one model name."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from keepfit.clock import Clock
from keepfit.data.records import ABSTAINED, MS, Deployment, Example, Prediction, Traffic
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, KeepfitError, Overloaded
from keepfit.serving.batching import Batcher, ClosedError, TimedOut
from keepfit.serving.cache import AnswerCache, Cached
from keepfit.serving.cascade import SILENT, Cascade, Opinion, stage_of
from keepfit.serving.failures import Failures, where
from keepfit.serving.limits import ServingLimits
from keepfit.serving.resting import Resting
from keepfit.serving.retired import Retired
from keepfit.serving.router import route
from keepfit.serving.shadow import Shadow
from keepfit.serving.versions import Served, Versions
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import Model
from keepfit.traces import OFF, Tracer

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""Pause before a deployment that could not be loaded is tried again; asking for another one waits for nothing."""

CLOSE_S = 20.0
"""So long `close` waits for answers that are under way: whoever stops a server kills it when it takes too long."""

NOT_READY = "no version is deployed yet; train one with `keepfit train DATA`"


@dataclass(frozen=True)
class Request:
    """One content to be answered, as the caller gave it."""

    content: Any
    id: str | None = None
    """The caller's own id of the example; one is made up when absent."""
    key: str | None = None
    """What stays together: requests of one key are answered by one version."""
    time: datetime | None = None
    """When it happened; None: now."""
    context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    group: str | None = None
    """What must not be split between train and test; None: derived from the content."""
    field: str | None = None
    """Where the content stood in the caller's request, for error messages."""
    request: str | None = None
    """The id of the HTTP request that it came with."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one request is told: the prediction, and whether the model would rather not say."""

    prediction: Prediction
    abstained: bool = False
    details: Any = None
    """What else the model says (for video: the frames)."""


@dataclass(frozen=True)
class Live:
    """What is served now; replaced as a whole, never changed. A request keeps the one that it began with."""

    deployment_id: int = 0
    traffic: Traffic = dataclasses.field(default_factory=Traffic)
    models: Mapping[int, Served] = dataclasses.field(default_factory=dict)

    @property
    def main(self) -> int:
        """The version with the most traffic (of equals the older): it answers where another one cannot."""
        return max(sorted(self.traffic.shares), key=lambda version: self.traffic.shares[version])


@dataclass(frozen=True)
class Turn:
    """One example on its way through one version."""

    example: Example
    served: Served
    cached: Cached | None
    opinion: Opinion = SILENT
    """What the version's first stage says; where it answers, its answer is `cached`, and no engine is asked."""


class Predictor:
    """Answers for one model name; `refresh` is slow, `predict` is fast, both from any thread.

    `load(version)` gives a fitted model ready to answer; it may take seconds and raise any KeepfitError.
    """

    def __init__(
        self,
        name: str,
        store: RecordStore,
        load: Callable[[int], Model],
        writer: RecordWriter,
        clock: Clock,
        worker_id: str = "server",
        limits: ServingLimits | None = None,
        tracer: Tracer = OFF,
        cascade: Cascade | None = None,
        rest: Resting | None = None,
    ) -> None:
        self.name = name
        self._store, self._writer, self._clock = store, writer, clock
        self._worker_id, self._limits, self._tracer = worker_id, limits or ServingLimits(), tracer
        self.cache = AnswerCache(self._limits.cache_bytes)
        self.cascade = cascade or Cascade(store, name)
        self.rest = rest or Resting(clock)
        self.retired = Retired(store, name, clock)
        self.failures = Failures(store, name, worker_id)
        self.shadow = Shadow(self._ask_shadow, self._limits.shadow_items, name)
        self._live = Live()
        self._versions = Versions(name, store, load, clock, self._limits)
        self._switching = threading.Lock()
        self._coming: set[int] = set()
        """Deployments that a thread is bringing up."""
        self._trouble: str | None = None
        self._failed: tuple[int, float] = (0, 0.0)
        """The deployment that could not be brought up, and when it may be tried again (monotonic seconds)."""
        self._unreported: Deployment | None = None

    @property
    def live(self) -> Live:
        """What is served at this moment."""
        return self._live

    def predict(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request, in order; all or none. Each is recorded aside.

        Raises InvalidInput (with the field) for a content that cannot be read, Overloaded when too many wait,
        BackendError when nothing is deployed or the engine failed.
        """
        while True:
            live = self._awake()
            try:
                answers = self._answer(live, requests)
            except ClosedError:
                if self._live is live:
                    raise BackendError("the server is stopping; try another one") from None
                continue
            return answers

    def version_for(self, key: str) -> Served:
        """The version that answers requests of this key now. Raises BackendError when nothing is deployed."""
        live = self._awake()
        return live.models[self._routed(live, key)]

    def main_version(self) -> Served:
        """The version that answers where another one cannot. Raises BackendError when nothing is deployed."""
        live = self._awake()
        return live.models[live.main]

    def _awake(self) -> Live:
        """What is served, loaded again where it was unloaded. Raises BackendError where there is nothing to serve."""
        self.rest.note()
        if not self._live.models and self.rest.asleep:
            self.refresh(wait=True)
            if self.rest.asleep:  # the store is away, but what served is known
                self._bring_back()
        live = self._live
        if not live.models:
            raise BackendError(self._trouble or NOT_READY)
        return live

    def failed(self, served: Served, error: Exception) -> None:
        """Note that a version could not answer. Raises the error itself where no other version could."""
        if (kind := kind_of(error)) is not None:
            self.failures.note(served.version, kind, error, self._clock.now())
        if self._live.models.get(served.version) is not served or served.version == self._live.main:
            raise error

    def record(self, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        """Keep, aside, what one of the versions said without being asked through `predict`."""
        self._writer.add(self.name, pairs)

    def refresh(self, wait: bool = False) -> bool:
        """Bring up what the newest deployment asks for, then switch over in one assignment; true when it did.

        What cannot be loaded or read leaves everything as it was; `ready` says why. What failed is written.
        """
        self.failures.refresh()
        try:
            deployment = self._store.deployment(self.name)
        except KeepfitError as error:
            self._trouble = f"the deployment of {self.name!r} cannot be read: {error}"
            return False
        live = self._live
        served = bool(live.models) or (self.rest.asleep and not wait)
        if deployment is None or deployment.id < live.deployment_id or (deployment.id == live.deployment_id and served):
            self._trouble = None
            self._report()
            self._rest()
            return False
        if deployment.id == self._failed[0] and time.monotonic() < self._failed[1]:
            return False
        with self._switching:
            if deployment.id in self._coming and not wait:  # another thread is at it: keep an eye on newer ones
                return False
            self._coming.add(deployment.id)
        try:
            return self._bring_up(deployment)
        finally:
            self._coming.discard(deployment.id)

    def _rest(self) -> None:
        """Unload everything when it is time to. What is under way is finished; the deployment stays what it is."""
        if not self.rest.due() or self.shadow.waiting() or not self._live.deployment_id:
            return
        with self._switching:
            if self._coming or not self.rest.due():
                return
            self.rest.asleep = True
            self._live = replace(self._live, models={})
            self._versions.unload()
            self.cache.clear()
        log.info("%s was asked by nobody for %s; it is unloaded until somebody asks", self.name, self.rest.after)

    def insist(self) -> None:
        """`refresh`, without waiting after a failed attempt.

        Raises BackendError when the newest deployment could not be brought up.
        """
        self._failed = (0, 0.0)
        self.refresh(wait=True)
        if self._trouble is not None:
            raise BackendError(self._trouble)

    def ready(self) -> str | None:
        """Why this model cannot answer as it should; None when all is well."""
        live = self._live
        if self._trouble is not None:
            return self._trouble
        if not live.models:
            return None if self.rest.asleep else f"{self.name}: {NOT_READY}"
        trouble = live.models[live.main].batcher.trouble()
        return None if trouble is None else f"{self.name} version {live.main}: {trouble}"

    def warm(self) -> tuple[int, ...]:
        """The versions in memory, for an instant way back."""
        return tuple(sorted(self._versions.loaded()))

    def batchers(self) -> Mapping[int, Batcher]:
        """The engine threads of the versions in memory, for the metrics."""
        return {number: served.batcher for number, served in self._versions.loaded().items()}

    def close(self) -> None:
        """Answer what waits, then stop; later requests are refused."""
        self.shadow.close()
        self.failures.refresh()
        with self._switching:
            self._versions.close(min(self._limits.timeout_s, CLOSE_S))

    # answering

    def _answer(self, live: Live, requests: Sequence[Request]) -> list[Answer]:
        examples = self._read(live, requests)
        turns = [self._turn(live, example) for example in examples]
        turns, fresh = self._ask(live, turns)
        now = self._clock.now()
        answers = [
            self._answer_of(turn, turn.cached or fresh[place], now, requests[place].request)
            for place, turn in enumerate(turns)
        ]
        pairs = [(turn.example, answer.prediction) for turn, answer in zip(turns, answers, strict=True)]
        with self._tracer.span("record", model=self.name):
            self.record(pairs)
        self._offer_shadows(live, turns)
        return answers

    def _read(self, live: Live, requests: Sequence[Request]) -> list[Example]:
        reader = live.models[live.main].model
        now = self._clock.now()
        examples = []
        for request in requests:
            try:
                content = reader.read(request.content)
            except InvalidInput as error:
                error.field = request.field or error.field
                raise
            example = Example(
                content, request.time or now, key=request.key, context=request.context, group=request.group
            )
            examples.append(example if request.id is None else replace(example, id=request.id))
        return examples

    def _turn(self, live: Live, example: Example) -> Turn:
        if len(live.traffic.shares) == 1:
            version = live.main
        else:
            version = self._routed(live, example.key or example.group_or_default())
        return self._turn_to(live, version, example)

    def _turn_to(self, live: Live, version: int, example: Example) -> Turn:
        served, cached = live.models[version], self.cache.get(version, example.content)
        opinion = self.cascade.opinion(served, example.content, cached is not None)
        return Turn(example, served, opinion.answer or cached, opinion)

    def _routed(self, live: Live, key: str) -> int:
        """The version of this key; the main one where that has failed again and again."""
        version = route(key, live.traffic)
        return live.main if self.failures.out(version) else version

    def _ask(self, live: Live, turns: Sequence[Turn]) -> tuple[list[Turn], dict[int, Cached]]:
        """What the engines say to everything that the cache did not know, by place; and who answered in the end.

        What another version than the main one cannot answer, the main one does: nobody is harmed by a bad challenger.
        """
        turns, answers = list(turns), dict[int, Cached]()
        places: dict[int, list[int]] = {}
        for place, turn in enumerate(turns):
            if turn.cached is None:
                places.setdefault(turn.served.version, []).append(place)
        for version in sorted(places, key=lambda number: number == live.main):  # the main one last: it may get more
            mine = places[version]
            try:
                answers |= self._ask_version(live, turns, mine)
            except ClosedError:
                raise
            except Exception as error:
                if version == live.main:
                    raise
                if kind_of(error) == "answer":
                    self.failures.note(version, "answer", error, self._clock.now(), len(mine))
                began = time.perf_counter()
                for place in mine:
                    turns[place] = self._turn_to(live, live.main, turns[place].example)
                left = [place for place in mine if turns[place].cached is None]
                answers |= self._ask_version(live, turns, left) if left else {}
                if kind_of(error) == "slow" and time.perf_counter() - began < self._patience(live, version):
                    self.failures.note(version, "slow", error, self._clock.now(), len(mine))
        return turns, answers

    def _patience(self, live: Live, version: int) -> float:
        """How long a version is waited for."""
        return self._limits.timeout_s * (1.0 if version == live.main else self._limits.challenger_share)

    def _ask_version(self, live: Live, turns: Sequence[Turn], places: Sequence[int]) -> dict[int, Cached]:
        """The answers of the version that these turns are for, by place."""
        served, started = turns[places[0]].served, time.perf_counter()
        with self._tracer.span("tokenise", model=self.name, version=served.version):
            prepared = served.model.prepare([turns[place].example.content for place in places])
        output = served.batcher.ask(prepared, self._patience(live, served.version), self._tracer)
        # of several contents each version gets another number, and a call has a cost of its own: not to be compared
        took = {MS: 1000 * (time.perf_counter() - started)} if len(turns) == 1 else {}
        self.failures.well(served.version)
        answers = {}
        for row, place in enumerate(places):
            answer = Cached(
                output.scores[row].copy(),
                output.embeddings[row].copy(),
                prepared.measures[row],
                None if output.details is None else output.details[row],
            )
            self.cache.put(served.version, turns[place].example.content, answer)
            measures = {**answer.measures, **took}
            answers[place] = Cached(answer.scores, answer.embedding, measures, answer.details)
        return answers

    # what is asked and not heard

    def _offer_shadows(self, live: Live, turns: Sequence[Turn]) -> None:
        """Every shadow is asked what it has not just answered itself."""
        for version in live.traffic.shadow:
            examples = [turn.example for turn in turns if turn.served.version != version]
            if examples:
                self.shadow.offer({live.models[version]: examples})

    def _ask_shadow(self, served: Served, examples: Sequence[Example]) -> None:
        """Record what a shadow says; what it cannot answer is its failure, and nobody waits for it."""
        if self.failures.out(served.version):
            return
        turns = [Turn(example, served, None) for example in examples]
        try:
            answers = self._ask_version(self._live, turns, range(len(turns)))
        except ClosedError:  # it serves no more
            return
        except Exception as error:
            if kind_of(error) == "answer":  # a shadow that has no time is not slow: it comes last
                self.failures.note(served.version, "answer", error, self._clock.now(), len(examples))
            return
        now = self._clock.now()
        said = [self._answer_of(turn, answers[place], now, None).prediction for place, turn in enumerate(turns)]
        self.record([(turn.example, replace(one, shadow=True)) for turn, one in zip(turns, said, strict=True)])

    def _answer_of(self, turn: Turn, known: Cached, now: datetime, request: str | None) -> Answer:
        example, model = turn.example, turn.served.model
        scores = self.retired.cleared(turn.served.version, model.labels, known.scores)
        floor, confidence = model.abstain_below, float(scores.max())
        abstained = floor is not None and confidence < floor
        measures = {**known.measures, **turn.opinion.marks(known.scores)}
        prediction = Prediction(
            example_id=example.id,
            model_version=turn.served.version,
            labels=model.labels,
            scores=scores,
            embedding=known.embedding,
            time=now,
            key=example.key,
            context=example.context,
            measures={**measures, ABSTAINED: 1.0} if abstained else measures,
            stage=stage_of(turn.opinion, turn.cached),
            request=request,
        )
        return Answer(prediction, abstained, known.details)

    # refreshing

    def _bring_up(self, deployment: Deployment) -> bool:
        """Load what is missing, then switch; true when this call switched."""
        switched: bool | None = None
        while switched is None:
            models: dict[int, Served] = {}
            for version in sorted(deployment.traffic.versions):
                try:
                    models[version] = self._versions.bring(version)
                except Exception as error:  # whatever a damaged or foreign model raises must not end the refresher
                    self.failures.note(version, "load", error, self._clock.now())
                    self._note_failure(deployment, error)
                    self.failures.refresh()
                    self._make_do(deployment, models)
                    self._bring_back()
                    return False
            switched = self._switch(deployment, models)
        self._report()
        return switched

    def _switch(self, deployment: Deployment, models: Mapping[int, Served]) -> bool | None:
        """False when a newer deployment is served meanwhile, None when a version was unloaded meanwhile."""
        with self._switching:
            live = self._live
            if deployment.id < live.deployment_id or (deployment.id == live.deployment_id and live.models):
                return False
            if not all(self._versions.holds(served) for served in models.values()):
                return None
            before, self._live = live, Live(deployment.id, deployment.traffic, models)
            self.rest.stir()
            self.failures.forget(sorted(set(models) - set(before.models)))
            self._trouble, self._unreported = None, deployment
            for version in self._versions.retire(before.models, deployment.traffic.versions):
                self.cache.forget(version)
            return True

    def _make_do(self, deployment: Deployment, models: Mapping[int, Served]) -> None:
        """A server that has nothing yet answers with the main version alone, where only another one cannot be loaded.

        It does not say that it serves the deployment, and goes on trying.
        """
        main = max(sorted(deployment.traffic.shares), key=lambda version: deployment.traffic.shares[version])
        if self._live.models or len(deployment.traffic.shares) < 2:
            return
        try:
            served = models.get(main) or self._versions.bring(main)
        except Exception as error:
            log.error("version %d of %s cannot be loaded either: %s", main, self.name, error, exc_info=where(error))
            return
        with self._switching:
            if not self._live.models:
                self._live = Live(0, Traffic({main: 1.0}), {main: served})
                self.rest.stir()

    def _bring_back(self) -> None:
        """What served before it was unloaded, where what is to serve now cannot be brought up, or is not known."""
        live = self._live
        if live.models or not live.deployment_id:
            return
        try:
            models = {version: self._versions.bring(version) for version in sorted(live.traffic.versions)}
        except Exception as error:
            log.error("%s could not be loaded again: %s", self.name, error, exc_info=where(error))
            self._trouble = self._trouble or f"{self.name}: it could not be loaded again: {error}"
            return
        with self._switching:
            if self._live is live:
                self._live = replace(live, models=models)
                self.rest.stir()

    def _note_failure(self, deployment: Deployment, error: Exception) -> None:
        again = deployment.id == self._failed[0]  # of what is tried every half minute one traceback is enough
        if deployment.id > self._live.deployment_id or not self._live.models:
            self.rest.asleep = False  # tried again and again, and readiness says why
            self._failed = (deployment.id, time.monotonic() + RETRY_S)
            self._trouble = f"{self.name}: deployment {deployment.id} could not be brought up: {error}"
        words = "deployment %d of %s could not be brought up: %s"
        log.error(words, deployment.id, self.name, error, exc_info=None if again else where(error))

    def _report(self) -> None:
        """Tell the history that this process serves it; tried again at the next refresh when the store is away."""
        deployment = self._unreported
        if deployment is None:
            return
        try:
            self._store.applied(deployment.id, self._worker_id, self._clock.now())
        except KeepfitError as error:
            log.warning("deployment %d is served but could not be noted as applied: %s", deployment.id, error)
            return
        if self._unreported is deployment:
            self._unreported = None


def kind_of(error: Exception) -> str | None:
    """How a version failed, as a `Failure` says it; None where it may not be to blame: load, or what it was asked."""
    if isinstance(error, Overloaded | InvalidInput):
        return None
    return "slow" if isinstance(error, TimedOut) else "answer"
