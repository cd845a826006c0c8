"""Predictor: requests in, recorded answers out, for one model name."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from keepfit.clock import Clock
from keepfit.data.records import Deployment, Example, Prediction, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, KeepfitError
from keepfit.serving.batching import Batcher, ClosedError
from keepfit.serving.cache import AnswerCache, Cached
from keepfit.serving.limits import ServingLimits
from keepfit.serving.router import route
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import Model, predict
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
class Served:
    """A loaded version."""

    version: int
    model: Model
    batcher: Batcher


@dataclass(frozen=True)
class Live:
    """What is served now; replaced as a whole, never changed. A request keeps the one that it began with."""

    deployment_id: int = 0
    traffic: Traffic = dataclasses.field(default_factory=Traffic)
    models: Mapping[int, Served] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One example on its way through one version."""

    example: Example
    served: Served
    cached: Cached | None


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
    ) -> None:
        self.name = name
        self._store, self._load_model, self._writer, self._clock = store, load, writer, clock
        self._worker_id, self._limits, self._tracer = worker_id, limits or ServingLimits(), tracer
        self.cache = AnswerCache(self._limits.cache_bytes)
        self._live = Live()
        self._loaded: dict[int, Served] = {}
        self._retired: list[int] = []
        """Loaded versions that do not serve now, the latest first."""
        self._loading = threading.Lock()
        """One load at a time; never held while a warm version is switched to, so that going back waits for nobody."""
        self._switching = threading.Lock()
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
            live = self._live
            if not live.models:
                raise BackendError(self._trouble or NOT_READY)
            try:
                answers = self._answer(live, requests)
            except ClosedError:
                if self._live is live:
                    raise BackendError("the server is stopping; try another one") from None
                continue
            return answers

    def version_for(self, key: str) -> Served:
        """The version that answers requests of this key now. Raises BackendError when nothing is deployed."""
        live = self._live
        if not live.models:
            raise BackendError(self._trouble or NOT_READY)
        return live.models[route(key, live.traffic)]

    def record(self, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        """Keep, aside, what one of the versions said without being asked through `predict`."""
        self._writer.add(self.name, pairs)

    def refresh(self) -> bool:
        """Bring up what the newest deployment asks for, then switch over in one assignment; true when it did.

        What cannot be loaded or read leaves everything as it was; `ready` says why.
        """
        try:
            deployment = self._store.deployment(self.name)
        except KeepfitError as error:
            self._trouble = f"the deployment of {self.name!r} cannot be read: {error}"
            return False
        if deployment is None or deployment.id <= self._live.deployment_id:
            self._trouble = None
            self._report()
            return False
        if deployment.id == self._failed[0] and time.monotonic() < self._failed[1]:
            return False
        return self._bring_up(deployment)

    def insist(self) -> None:
        """`refresh`, without waiting after a failed attempt.

        Raises BackendError when the newest deployment could not be brought up.
        """
        self._failed = (0, 0.0)
        self.refresh()
        if self._trouble is not None:
            raise BackendError(self._trouble)

    def ready(self) -> str | None:
        """Why this model cannot answer as it should; None when all is well."""
        live = self._live
        if self._trouble is not None:
            return self._trouble
        if not live.models:
            return f"{self.name}: {NOT_READY}"
        for number, served in live.models.items():
            if (trouble := served.batcher.trouble()) is not None:
                return f"{self.name} version {number}: {trouble}"
        return None

    def warm(self) -> tuple[int, ...]:
        """The versions in memory, for an instant way back."""
        return tuple(sorted([*self._loaded]))

    def batchers(self) -> Mapping[int, Batcher]:
        """The engine threads of the versions in memory, for the metrics."""
        return {number: served.batcher for number, served in list(self._loaded.items())}

    def close(self) -> None:
        """Answer what waits, then stop; later requests are refused."""
        with self._loading, self._switching:
            for served in self._loaded.values():
                served.batcher.close()
            for served in self._loaded.values():
                served.batcher.join(min(self._limits.timeout_s, CLOSE_S))

    # answering

    def _answer(self, live: Live, requests: Sequence[Request]) -> list[Answer]:
        examples = self._read(live, requests)
        turns = [self._turn(live, example) for example in examples]
        fresh = self._ask(turns)
        now = self._clock.now()
        answers = [
            self._answer_of(turn, turn.cached or fresh[place], now, requests[place].request)
            for place, turn in enumerate(turns)
        ]
        pairs = [(turn.example, answer.prediction) for turn, answer in zip(turns, answers, strict=True)]
        with self._tracer.span("record", model=self.name):
            self.record(pairs)
        return answers

    def _read(self, live: Live, requests: Sequence[Request]) -> list[Example]:
        reader = live.models[min(live.traffic.shares)].model
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
            version = next(iter(live.traffic.shares))
        else:
            version = route(example.key or example.group_or_default(), live.traffic)
        return Turn(example, live.models[version], self.cache.get(version, example.content))

    def _ask(self, turns: Sequence[Turn]) -> dict[int, Cached]:
        """What the engines say to everything that the cache did not know, by place in the call."""
        answers: dict[int, Cached] = {}
        places: dict[int, list[int]] = {}
        for place, turn in enumerate(turns):
            if turn.cached is None:
                places.setdefault(turn.served.version, []).append(place)
        for version, mine in places.items():
            served = turns[mine[0]].served
            with self._tracer.span("tokenise", model=self.name, version=version):
                prepared = served.model.prepare([turns[place].example.content for place in mine])
            output = served.batcher.ask(prepared, self._limits.timeout_s, self._tracer)
            details = output.details
            for row, place in enumerate(mine):
                answer = Cached(
                    output.scores[row].copy(),
                    output.embeddings[row].copy(),
                    prepared.measures[row],
                    None if details is None else details[row],
                )
                answers[place] = answer
                self.cache.put(version, turns[place].example.content, answer)
        return answers

    def _answer_of(self, turn: Turn, known: Cached, now: datetime, request: str | None) -> Answer:
        example, model = turn.example, turn.served.model
        prediction = Prediction(
            example_id=example.id,
            model_version=turn.served.version,
            labels=model.labels,
            scores=known.scores,
            embedding=known.embedding,
            time=now,
            key=example.key,
            context=example.context,
            measures=known.measures,
            stage="model" if turn.cached is None else "cache",
            request=request,
        )
        floor = model.abstain_below
        return Answer(prediction, floor is not None and prediction.confidence < floor, known.details)

    # refreshing

    def _bring_up(self, deployment: Deployment) -> bool:
        """Load what is missing, then switch; true when this call switched."""
        switched: bool | None = None
        while switched is None:
            try:
                models = {version: self._version(version) for version in deployment.traffic.versions}
            except Exception as error:  # whatever a damaged or foreign model raises must not end the refresher
                self._note_failure(deployment, error)
                return False
            switched = self._switch(deployment, models)
        self._report()
        return switched

    def _switch(self, deployment: Deployment, models: Mapping[int, Served]) -> bool | None:
        """False when a newer deployment is served meanwhile, None when a version was unloaded meanwhile."""
        with self._switching:
            if deployment.id <= self._live.deployment_id:
                return False
            if any(self._loaded.get(version) is not served for version, served in models.items()):
                return None
            before, self._live = self._live, Live(deployment.id, deployment.traffic, models)
            self._trouble, self._unreported = None, deployment
            self._retire(before)
            return True

    def _note_failure(self, deployment: Deployment, error: Exception) -> None:
        if deployment.id > self._live.deployment_id:
            self._failed = (deployment.id, time.monotonic() + RETRY_S)
            self._trouble = f"{self.name}: deployment {deployment.id} could not be brought up: {error}"
        log.error("deployment %d of %s could not be brought up", deployment.id, self.name, exc_info=error)

    def _version(self, number: int) -> Served:
        """The version, loaded and warmed; one that is in memory and well is taken as it is."""
        if (known := self._well(number)) is not None:
            return known
        with self._loading:
            if (known := self._well(number)) is not None:
                return known
            model = self._load_model(number)
            self._warm_up(model)
            batcher = Batcher(model, self._limits.batch_cost, self._limits.queue_items, f"{self.name} v{number}")
            self._loaded[number] = Served(number, model, batcher)
            return self._loaded[number]

    def _well(self, number: int) -> Served | None:
        served = self._loaded.get(number)
        return served if served is not None and served.batcher.trouble() is None else None

    def _warm_up(self, model: Model) -> None:
        """Answer recent contents, else a word, so that the first caller does not pay for the start.

        Old contents may be none any more (a stored video is gone), which is no fault of the version.
        """
        try:
            if recent := self._recent_contents():
                predict(model, recent)
                return
        except KeepfitError as error:
            log.warning("%s: a new version could not be warmed with recent contents: %s", self.name, error)
        try:
            contents = [model.read("warm up")]
        except InvalidInput:
            contents = []
        predict(model, contents)

    def _recent_contents(self) -> list[Any]:
        if not self._limits.warm_up:
            return []
        window = Window(datetime(1970, 1, 1, tzinfo=UTC), self._clock.now() + timedelta(days=1))
        return [example.content for example in self._store.examples(self.name, window, limit=self._limits.warm_up)]

    def _retire(self, before: Live) -> None:
        """Keep the latest retired versions in memory, unload the others (they finish what they have)."""
        serving = self._live.traffic.versions
        gone = [version for version in before.models if version not in serving]
        self._retired = gone + [v for v in self._retired if v not in serving and v not in gone]
        kept = self._retired[: self._limits.keep_warm]
        for version in [v for v in [*self._loaded] if v not in serving and v not in kept]:
            self._loaded.pop(version).batcher.close()
            self.cache.forget(version)
        self._retired = kept

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
