"""The answering half, put together from the settings: the service of a project, and the process that serves it."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

from keepfit import __version__
from keepfit.app import server
from keepfit.app.http.access import check_host
from keepfit.app.service import HttpLimits, ServedModel, Service
from keepfit.app.settings import load
from keepfit.app.wiring import Home, answering_half, open_store, unasked
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter

MB = 2**20


def serve(project: Path, host: str | None, port: int | None) -> None:
    """Serve a project until SIGTERM or SIGINT. Raises SettingsError or BackendError when it cannot start."""
    settings = load(project, os.environ).server
    listen = host or settings.host
    with open_store(Home(project, load(project, os.environ))) as store:
        check_host(listen, store.tokens())
    server.serve(partial(make, project), listen, settings.port if port is None else port, settings.threads)


def make(project: Path) -> Service:
    """The service of a project: its store, and a predictor for each model."""
    home = Home(project, load(project, os.environ))
    settings = home.settings.server
    store = open_store(home)
    writer = RecordWriter(store)
    limits = ServingLimits(queue_items=settings.queue, cache_bytes=int(settings.cache_mb * MB))
    worker = f"{socket.gethostname()}-{os.getpid()}"
    predictors = {
        name: Predictor(name, store, answering_half(home, name), writer, home.clock, worker, limits)
        for name in home.settings.models
    }
    return Service(
        store=store,
        models={
            name: ServedModel(predictors[name], model.task, unasked(model))
            for name, model in home.settings.models.items()
        },
        default=home.settings.model(None)[0],
        writer=writer,
        refresher=Refresher(list(predictors.values())),
        clock=home.clock,
        version=__version__,
        batches=home.batches,
        limits=HttpLimits(int(settings.max_body_mb * MB), int(settings.max_upload_mb * MB), settings.max_texts),
        tokens_required=home.settings.tokens_required,
    )
