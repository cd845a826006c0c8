"""The HTTP server: `create_app` makes the Flask application of a Service, `serve` runs it on Granian."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, NoReturn

from flask import Flask
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from keepfit.app import show
from keepfit.app.http import (
    audit,
    batches,
    costs,
    elsewhere,
    headers,
    health,
    history,
    identity,
    inference,
    inference_schemas,
    jobs,
    labels,
    metrics,
    predict,
    problems,
    routing,
    video,
)
from keepfit.app.http.access import Access, OpenLimits, UnknownTokens, check_host
from keepfit.app.http.reading import StrictRequest
from keepfit.app.http.schemas import Problem
from keepfit.app.logs import write_logs
from keepfit.app.processes import FAULT, REFUSED
from keepfit.app.service import Service
from keepfit.errors import BackendError, KeepfitError
from keepfit.redaction import guard_logs

log = logging.getLogger(__name__)

HEADER_BYTES = 64 * 2**10

SERIAL = "TOKENIZERS_PARALLELISM"
"""Off in the server: waking a pool of threads for one text costs more than its tokens, and the engine has the cores."""

TABLE = (
    *predict.ROUTES, *labels.ROUTES, *batches.ROUTES, *jobs.ROUTES, *history.ROUTES, *video.ROUTES, *audit.ROUTES,
    *costs.ROUTES, *elsewhere.ROUTES,
)  # fmt: skip


class Application(OpenAPI):
    """Flask with strict reading of requests."""

    request_class = StrictRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """As it is: no handler here is asynchronous, and Flask would look again for each of them at every request."""
        return func

    @property
    def api_doc(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return inference_schemas.document(routing.document_uploads(super().api_doc, self.config["ROLES"]))


def create_app(service: Service, host: str = "127.0.0.1") -> OpenAPI:
    """The application of a service, which must be started and closed by the caller.

    Raises SettingsError when `host` is not a loopback address and no token is set.
    """
    check_host(host, service.store.tokens())
    app = Application(
        "keepfit",
        info=Info(title="keepfit", version=service.version, description="Classifiers that are kept fit."),
        doc_ui=False,
        security_schemes={"token": {"type": "http", "scheme": "bearer"}},
        static_folder=None,
        validation_error_model=Problem,
        validation_error_callback=problems.of_validation,
    )
    app.config["MAX_CONTENT_LENGTH"] = service.limits.body_bytes
    app.config["ROLES"] = {}
    problems.install(app)
    identity.install(app, service.access_log, service.tracer)
    registry = metrics.install(app, service)
    headers.install(app)
    limits = OpenLimits(service.limits.requests_per_minute, service.limits.labels_per_day)
    access = Access(service.store, service.clock, service.tokens_required, limits)
    registry.register(UnknownTokens(access))
    routing.guard(app, service, access)
    for route in TABLE:
        routing.add(app, service, access, route)
    health.install(app, service, registry)
    inference.install(app, service)
    return app


def serve(
    make: Callable[[], Service], host: str = "127.0.0.1", port: int = 8080, threads: int = 32, header_s: float = 10.0
) -> None:
    """Answer on this address until SIGTERM or SIGINT; then finish what is under way and write what waits.

    `make` runs in the serving process (one, so that all threads share models, queue and cache); it must be picklable
    where processes are spawned, such as a `functools.partial` of a function of a module. A client that takes longer
    than `header_s` seconds to send its headers, or sends far more of them than 64 KiB, is cut off.
    Raises BackendError when the address cannot be taken. Where the serving process cannot start it says why, and this
    process ends with its exit code.
    """
    address = free_address(host, port)
    server = Granian(
        "keepfit",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,  # HTTP/2 without TLS has no users, and attacks of its own
        http1_settings=HTTP1Settings(header_read_timeout=int(1000 * header_s), max_buffer_size=HEADER_BYTES),
        workers=1,
        blocking_threads=threads,
        backpressure=max(2 * threads, 128),
        log_level=LogLevels.error,
        workers_kill_timeout=30,
    )
    ended, tell = multiprocessing.Pipe(duplex=False)
    logging.getLogger("_granian").addFilter(lambda line: not ended.poll())  # who could not start has said why
    try:
        server.serve(target_loader=partial(load, make, host, port, tell), wrap_loader=False)
    except SystemExit as end:
        raise SystemExit(ended.recv() if ended.poll() else end.code) from end


def load(make: Callable[[], Service], host: str, port: int, tell: Connection) -> Callable[..., Any]:
    """The application, in the serving process, wired to be closed when the process ends.

    Where it cannot start, one sentence says why, `tell` gets the exit code, and the process ends.
    """
    guard_logs()
    os.environ.setdefault(SERIAL, "false")
    try:
        service = make()
        write_logs(service.log_form, identity.known)
        app: Flask = create_app(service, host)
        service.start()
    except KeepfitError as error:
        show.error(error, json=False)
        end_with(REFUSED, tell)
    except Exception as problem:
        show.unexpected(problem)
        end_with(FAULT, tell)
    place = f"[{host}]" if ":" in host else host
    print(f"keepfit server: http://{place}:{port}; {standing(service)}", file=sys.stderr, flush=True)
    Finalize(None, service.close, exitpriority=10)
    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()
    return app


def end_with(code: int, tell: Connection) -> NoReturn:
    """End the serving process before it serves; its parent ends with the same code."""
    tell.send(code)
    sys.exit(code)


def standing(service: Service) -> str:
    """What it answers with, for people who start it."""
    troubles = service.trouble()
    return "; ".join(troubles) if troubles else f"answers for {', '.join(sorted(service.models))}"


def end_with_parent() -> None:
    """A server whose parent was killed must not hold the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def free_address(host: str, port: int) -> str:
    """The address that this host stands for, IPv4 where it has both. Raises BackendError when it cannot be taken."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()  # another may have taken it without listening yet
    except OSError as error:
        raise BackendError(f"{host}:{port} cannot be taken ({error.strerror}); choose another --port") from error
    return str(place[0])
