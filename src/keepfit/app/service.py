"""Service: everything that the HTTP server needs, in one frozen value; the wiring builds it, the routes read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keepfit.app.memory import Memory
from keepfit.app.observing import Observed
from keepfit.clock import Clock
from keepfit.data.records import Source
from keepfit.data.store import RecordStore
from keepfit.errors import NotFound
from keepfit.pipelines.costs import Ledger, Prices
from keepfit.pipelines.intake import Intake
from keepfit.rollout.rollout import Roller
from keepfit.serving.costs import ServingCosts
from keepfit.serving.predictor import Predictor
from keepfit.serving.refresher import Refresher
from keepfit.serving.streams import Streams
from keepfit.serving.writer import RecordWriter
from keepfit.traces import OFF, Tracer


@dataclass(frozen=True)
class ServedModel:
    """One model name that this process answers for."""

    predictor: Predictor
    task: str = "text"
    label_source: Source = Source.VOLUNTEERED
    """What a label is that nobody asked for: volunteered, or complete where every outcome becomes known."""
    intake: Intake | None = None
    """Takes the answers of a model that is served elsewhere; None: it is served here."""
    new_classes: bool = False
    """Whether a label may be of a class that the model does not know."""
    roller: Roller | None = None
    """Gives an approved version its traffic; None: nothing is approved here."""
    keeps_texts: bool = True
    """Whether texts may lie here as they came, such as in files that are handed in."""

    def trouble(self) -> str | None:
        """Why this process cannot answer for it as it should; of one that is served elsewhere nothing is asked."""
        return None if self.intake is not None else self.predictor.ready()


@dataclass(frozen=True)
class HttpLimits:
    """How much one HTTP request may bring."""

    body_bytes: int = 10 * 2**20
    file_bytes: int = 2**30
    """For files given to POST /batches."""
    items: int = 1000
    """Texts, or labels, in one call."""
    clip_s: float = 120.0
    """Seconds of video given to POST /predict."""
    threads: int = 32
    """Requests that are handled at once."""
    requests_per_minute: int | None = None
    """Of one address, while there are no tokens; None: no limit."""
    labels_per_day: int | None = None
    """Of all callers without a token together; None: no limit."""


@dataclass(frozen=True)
class Service:
    """What `create_app` serves. Closing it flushes what was not yet written."""

    store: RecordStore
    models: Mapping[str, ServedModel]
    default: str
    """The model that the bare routes address."""
    writer: RecordWriter
    refresher: Refresher
    clock: Clock
    version: str
    batches: Path
    """Folder where uploaded files and their outputs lie, one folder per job."""
    videos: Path = Path(".keepfit/videos")
    """Folder of stored videos."""
    streams: Streams = field(default_factory=Streams)
    limits: HttpLimits = field(default_factory=HttpLimits)
    tokens_required: bool = False
    """Ask for a token even while none was made; once there is one, every caller needs one anyway."""

    observed: Observed | None = None
    """What the metrics say of the store; None: nothing."""
    aside: Refresher | None = None
    """A thread of its own for figures and costs, so that they never hold up a deployment."""
    spent: ServingCosts | None = None
    """Adds up what answering costs."""
    tracer: Tracer = OFF
    log_form: Literal["text", "json"] = "text"
    access_log: Literal["none", "requests", "all"] = "requests"
    """A line for each request; all: also for /health and /metrics."""
    memory: Memory | None = None
    """What each model takes; None: nobody looks."""
    ledger: Ledger | None = None
    """What everything costs; None: in seconds only."""

    @property
    def books(self) -> Ledger:
        """The ledger as set, else one without prices."""
        return self.ledger or Ledger(self.store, tuple(self.models), Prices(), "UTC", self.clock)

    def model(self, name: str) -> ServedModel:
        """Raises NotFound with the known names."""
        try:
            return self.models[name]
        except KeyError:
            raise NotFound(f"there is no model {name!r} here; known: {', '.join(sorted(self.models))}") from None

    def start(self) -> None:
        """Bring up what is deployed, then keep looking for new deployments."""
        self.refresher.start()
        if self.aside is not None:
            self.aside.start()

    def trouble(self) -> list[str]:
        """Why this process cannot do all that it should; empty when it can."""
        reasons = [served.trouble() for served in self.models.values()]
        reasons += [self.writer.ready(), self.refresher.ready()]
        return [reason for reason in reasons if reason is not None]

    def close(self) -> None:
        """Stop refreshing, finish what is under way, write what waits; the store stays open."""
        self.refresher.close()
        if self.aside is not None:
            self.aside.close()
        for served in self.models.values():
            served.predictor.close()
        self.writer.close()
        if self.spent is not None:
            self.spent.close()
        self.tracer.close()
