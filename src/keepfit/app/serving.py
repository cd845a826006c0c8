"""The answering half, put together from the settings: the service of a project, and the process that serves it."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

from keepfit import __version__
from keepfit.app import server
from keepfit.app.http.access import check_host
from keepfit.app.memory import Memory, MemoryReport
from keepfit.app.observing import EVERY_S, Observed
from keepfit.app.service import HttpLimits, ServedModel, Service
from keepfit.app.settings import ServerSettings, load
from keepfit.app.spending import ledger
from keepfit.app.tracing import tracer_of
from keepfit.app.wiring import (
    Home,
    answering_half,
    discretion,
    intake,
    open_store,
    roller,
    takes_new_classes,
    unasked,
)
from keepfit.data.store import RecordStore
from keepfit.serving.cascade import Cascade
from keepfit.serving.costs import ServingCosts
from keepfit.serving.forgetting import Forgetting
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor
from keepfit.serving.refined import Refined
from keepfit.serving.refresher import Refresher
from keepfit.serving.resting import Resting
from keepfit.serving.streams import Streams
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.video.clips import FOLDER
from keepfit.traces import Tracer

MB = 2**20
FRAMES = 512
"""Of video in one engine call: they are in memory together."""
VIDEO_PATIENCE = 30
"""Two cores answer some ten frames a second, and a call may bring two minutes of video: 15 minutes instead of 30 s."""


def serve(project: Path, host: str | None, port: int | None) -> None:
    """Serve a project until SIGTERM or SIGINT. Raises SettingsError or BackendError when it cannot start."""
    settings = load(project, os.environ).server
    listen = host or settings.host
    with open_store(Home(project, load(project, os.environ))) as store:
        check_host(listen, store.tokens())
    place = (listen, settings.port if port is None else port)
    server.serve(partial(make, project), *place, settings.threads, settings.header_timeout.total_seconds())


def make(project: Path, tracer: Tracer | None = None) -> Service:
    """The service of a project: its store, and a predictor for each model; `tracer` instead of the one that is set."""
    home = Home(project, load(project, os.environ))
    settings = home.settings.server
    store = open_store(home)
    said = {name: discretion(name, model) for name, model in home.settings.models.items()}
    writer = RecordWriter(store, discretion=said)
    tracer = tracer or tracer_of(home.settings.traces)
    videos = home.state / FOLDER
    if any(model.task == "video" for model in home.settings.models.values()):
        videos.mkdir(exist_ok=True)  # models look for it when they are loaded
    predictors = predictors_of(home, writer, store, tracer)
    refined = {name: Refined(store, name) for name, model in home.settings.models.items() if model.task == "video"}
    forgetting = [Forgetting(store, predictor.cache, predictor.shadow) for predictor in predictors.values()]
    cascades = [predictor.cascade for predictor in predictors.values()]
    retired = [predictor.retired for predictor in predictors.values()]
    here = [one for name, one in predictors.items() if home.settings.models[name].served == "here"]
    books = ledger(home, store)
    observed = Observed(store, books, home.clock)
    spent = ServingCosts(store, predictors, writer.tally, home.clock)
    memory = Memory(home.models, predictors)
    streams = Streams(settings.max_streams, settings.stream_idle, home.clock, refined)
    for name, predictor in predictors.items():
        predictor.rest.busy = partial(streams.has, name)
    return Service(
        store=store,
        models={name: served(home, predictor, store) for name, predictor in predictors.items()},
        default=home.settings.model(None)[0],
        writer=writer,
        refresher=Refresher([*forgetting, *refined.values(), *cascades, *retired, *here], at_once=2),
        clock=home.clock,
        version=__version__,
        batches=home.batches,
        videos=videos,
        streams=streams,
        memory=memory,
        limits=http_limits(settings),
        tokens_required=home.settings.tokens_required,
        observed=observed,
        aside=Refresher([observed, spent, MemoryReport(memory, store, home.clock, worker_id())], EVERY_S),
        spent=spent,
        tracer=tracer,
        log_form=home.settings.log.format,
        access_log=home.settings.log.access,
        ledger=books,
    )


def predictors_of(home: Home, writer: RecordWriter, store: RecordStore, tracer: Tracer) -> dict[str, Predictor]:
    """One for each model, by name."""
    settings, worker = home.settings.server, worker_id()
    limits = ServingLimits(
        queue_items=settings.queue, cache_bytes=int(settings.cache_mb * MB), timeout_s=settings.timeout.total_seconds()
    )
    return {
        name: Predictor(
            name, store, answering_half(home, name, store), writer, home.clock, worker,
            for_videos(limits) if model.task == "video" else limits, tracer,
            Cascade(store, name, model.cascade.plan()), Resting(home.clock, settings.unload_idle_after),
        )
        for name, model in home.settings.models.items()
    }  # fmt: skip


def worker_id() -> str:
    """Under which name this process is in the history."""
    return f"{socket.gethostname()}-{os.getpid()}"


def served(home: Home, predictor: Predictor, store: RecordStore) -> ServedModel:
    """A model with what its settings say of its labels and its rollouts."""
    name, model = home.settings.model(predictor.name)
    taken = intake(home, name, store) if model.served == "elsewhere" else None
    rolls, keeps = roller(home, name, store), discretion(name, model).keeps_texts
    return ServedModel(predictor, model.task, unasked(model), taken, takes_new_classes(model), rolls, keeps)


def http_limits(settings: ServerSettings) -> HttpLimits:
    """What one request may bring, and how long it may take to bring it."""
    return HttpLimits(
        int(settings.max_body_mb * MB), int(settings.max_upload_mb * MB), settings.max_texts, settings.max_clip_s,
        settings.threads, settings.requests_per_minute, settings.labels_per_day,
    )  # fmt: skip


def for_videos(limits: ServingLimits) -> ServingLimits:
    """The limits of a model whose contents cost seconds, not milliseconds; costs are frames."""
    return replace(limits, batch_cost=FRAMES, timeout_s=VIDEO_PATIENCE * limits.timeout_s, warm_up=0)
