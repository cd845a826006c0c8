"""Durable jobs on DBOS: a retraining that is killed at any point goes on from its last finished step.

Only the process that holds the worker's lock launches DBOS, with a stable executor and application version, so
that nothing is run twice by a second process and nothing is orphaned by an upgrade (docs/adr/0001).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_error
from dbos._serialization import Serializer

from keepfit.errors import BackendError, InvalidInput, KeepfitError
from keepfit.pipelines.progress import STEPS
from keepfit.pipelines.retrain import Retraining, State

EXECUTOR = "keepfit-worker"
APPLICATION_VERSION = "keepfit-retrain-1"
"""Changes only when STEPS change in a way that a half-done retraining of the old kind cannot finish."""
ATTEMPTS = 4
CLOSING_ATTEMPTS = 12
"""With doubling pauses, over an hour: a store that was away must not leave a job under way for ever."""
GRACE_S = 10.0
"""A job that was begun is under way after so long at the latest, if it is at all, and its end is noted so long after
it at the latest, if it can be."""
SILENT = logging.CRITICAL + 1
GIVEN_UP = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

log = logging.getLogger(__name__)


class JsonSerializer(Serializer):
    """Plain JSON instead of DBOS's default pickle; an exception becomes its sentence."""

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            data = {"__error__": str(data)}
        return json.dumps(data)

    def deserialize(cls, serialized_data: str) -> Any:  # noqa: N805 - the base class names it so
        data = json.loads(serialized_data)
        return BackendError(data["__error__"]) if isinstance(data, dict) and "__error__" in data else data

    def name(self) -> str:
        return "keepfit_json"


class DurableRetrainings:
    """The one DBOS instance of this process; a context manager. `retraining(model)` gives a model's steps."""

    def __init__(self, url: str, retraining: Callable[[str], Retraining], grace_s: float = GRACE_S) -> None:
        self._url, self._retraining, self._grace_s = url, retraining, grace_s
        self._start: Callable[[str, str], None] = refuse
        self._touched: dict[str, float] = {}
        """When a job was begun here, or its steps ended, last (monotonic seconds)."""
        self._noted: dict[str, Future[State]] = {}
        """Of jobs that were begun here: done when DBOS is done with them, which is after their steps."""
        self._active: set[str] = set()
        """Jobs whose steps are being done in this process."""

    def __enter__(self) -> DurableRetrainings:
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(
            config={
                "name": "keepfit",
                "system_database_url": self._url,
                "executor_id": EXECUTOR,
                "application_version": APPLICATION_VERSION,
                "serializer": JsonSerializer(),
                "log_level": "ERROR",
                "notification_listener_polling_interval_sec": 0.2,
            }
        )

        self._start = self._registered()
        try:
            DBOS.launch()
        except Exception as error:
            raise BackendError(f"the job database {self._url} cannot be used: {error}") from error
        return self

    def _registered(self) -> Callable[[str, str], None]:
        """What begins a job, of the workflow that DBOS is told of here.

        DBOS marks the functions that it registers, and a bound method cannot be marked.
        """

        @DBOS.step(name="keepfit.retrain.step", retries_allowed=True, max_attempts=ATTEMPTS, interval_seconds=1.0)
        def step(model: str, name: str, state: State) -> State:
            return self._step(model, name, state)

        @DBOS.step(
            name="keepfit.retrain.failed", retries_allowed=True, max_attempts=CLOSING_ATTEMPTS, interval_seconds=1.0
        )
        def close(model: str, job_id: str, sentence: str, retry: bool = False) -> None:
            self._failed(model, job_id, sentence, retry)

        @DBOS.workflow(name="keepfit.retrain")
        def retrain(model: str, job_id: str) -> State:
            self._active.add(job_id)
            try:
                return steps(model, job_id)
            finally:
                self._touched[job_id] = time.monotonic()
                self._active.discard(job_id)

        def steps(model: str, job_id: str) -> State:
            state: State = {"job": job_id}
            for name in STEPS:
                try:
                    state = step(model, name, state)
                except dbos_error.DBOSMaxStepRetriesExceeded as error:
                    last = str(error.errors[-1] if getattr(error, "errors", None) else error)
                    state = {**state, "error": last, "retry": True}
                if "error" in state:
                    close(model, job_id, state["error"], state.get("retry", False))
                    return state
            return state

        def start(model: str, job_id: str) -> None:
            with SetWorkflowID(job_id):
                handle = DBOS.start_workflow(retrain, model, job_id)
            if (noted := getattr(handle, "future", None)) is not None:  # not where it was begun before
                self._noted[job_id] = noted

        return start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A step that is being done is not waited for: the next `with` begins it anew, as after a kill."""
        DBOS.destroy(destroy_registry=True)
        if self._active:  # its thread finds no database to note its end in, and nobody need hear of that
            logging.getLogger("dbos").setLevel(SILENT)

    def start(self, model: str, job_id: str) -> None:
        """Begin or go on with the job; returns at once. A job that was begun before is not begun again.

        One that was given up without its row being closed is closed as failed, so that the next can begin. One that
        stopped here without an end goes on from its last finished step.
        """
        stopped = job_id in self._touched and not self.goes_on(job_id)
        self._touched[job_id] = time.monotonic()
        self._start(model, job_id)
        status = DBOS.retrieve_workflow(job_id).get_status().status
        if status in GIVEN_UP:
            self._failed(model, job_id, f"the job was given up earlier ({status.lower()}); ask for it again", True)
        elif stopped and status == "PENDING":
            DBOS.resume_workflow(job_id)

    def goes_on(self, job_id: str) -> bool:
        """Whether this process works on the job, or has begun or ended it a moment ago."""
        noted = self._noted.get(job_id)
        if job_id in self._active or (noted is not None and not noted.done()):
            return True
        return time.monotonic() - self._touched.get(job_id, float("-inf")) < self._grace_s

    def run(self, model: str, job_id: str) -> State:
        """Begin or go on with the job, and wait for its end."""
        aside = ThreadPoolExecutor(1)  # DBOS refuses to wait in a thread with an event loop, such as a notebook's
        try:
            return aside.submit(self._run, model, job_id).result()
        finally:
            aside.shutdown(wait=False)  # Ctrl-C need not wait for the end of the training

    def _run(self, model: str, job_id: str) -> State:
        self.start(model, job_id)
        state: State = DBOS.retrieve_workflow(job_id).get_result()
        return state

    def _step(self, model: str, name: str, state: State) -> State:
        """A step that cannot be done ends the job; what a later attempt may mend is raised, and retried."""
        try:
            return self._retraining(model).step(name, state)
        except BackendError:
            raise
        except KeepfitError as error:
            return {**state, "error": str(error)}
        except Exception as error:
            log.exception("step %s of job %s failed", name, state["job"])
            return {**state, "error": f"{type(error).__name__} in step {name}: {error}"}

    def _failed(self, model: str, job_id: str, sentence: str, retry: bool) -> None:
        self._retraining(model).failed(job_id, BackendError(sentence) if retry else InvalidInput(sentence))


def refuse(model: str, job_id: str) -> None:
    """Before `with`, nothing can be started."""
    raise BackendError("the durable jobs are not launched; use them in a `with` block")
