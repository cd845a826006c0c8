"""Refine: count how high the windows of live cameras reach, and judge their thresholds anew by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from keepfit.clock import Clock
from keepfit.data.records import STREAM, UNWRITTEN, Label, Prediction, Source, Window, text_group
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.rollout.rollout import single
from keepfit.serving.refined import LEVEL, REFINED
from keepfit.tasks.video.refining import Levels, judge
from keepfit.tasks.video.timeline import ANOMALY, Threshold

COUNTED = "levels"
"""The name of the value in the store that holds what was counted."""
AT_ONCE = timedelta(hours=1)
"""What a worker that was away has to catch up on is read in pieces of so much."""
MOST_CAMERAS = 256
"""Cameras are named by callers; those beyond so many keep the version's own threshold."""


@dataclass(frozen=True)
class Counted:
    """What is known of one camera under one version."""

    levels: Levels = field(default_factory=Levels)
    judged: int = 0
    """Windows at the last judgement."""
    anomalies: tuple[str, ...] = ()
    """Predictions that a person has labelled as anomalies: they are not counted."""

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Counted:
        """As `to_json` gave it."""
        counts = {int(step): int(count) for step, count in kept["counts"].items()}
        return cls(Levels(counts), int(kept["judged"]), tuple(kept["anomalies"]))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {str(step): count for step, count in self.levels.counts.items()}
        return {"counts": counts, "judged": self.judged, "anomalies": list(self.anomalies)}

    def labelled(self, pairs: Sequence[tuple[Prediction, Label]]) -> Counted:
        """Without the windows that are said to be anomalies, and with those that are cleared again."""
        named = {p.id: p.measures[LEVEL] for p, label in pairs if label.value == ANOMALY and p.id not in self.anomalies}
        cleared = {p.id: p.measures[LEVEL] for p, label in pairs if label.value != ANOMALY and p.id in self.anomalies}
        kept = tuple(id_ for id_ in self.anomalies if id_ not in cleared)
        if not named and not cleared:
            return self
        levels = self.levels.changed(cleared.values(), named.values())
        return Counted(levels, 0, (*kept, *named))  # what was judged with them is to be judged again


@dataclass(frozen=True)
class Refine:
    """The thresholds of one model's cameras; `tick` does what is due, and twice is as good as once."""

    model: str
    store: RecordStore
    terms: Callable[[int, str], tuple[Threshold, float]]
    """The threshold that a version was trained with for a camera, and the seconds of its windows."""
    clock: Clock

    def tick(self) -> None:
        """Count the windows and labels since the last beat, then judge the cameras that have shown enough more."""
        live = self.store.deployment(self.model)
        if live is None:
            return
        version, end = single(live.traffic), self.clock.now() - UNWRITTEN
        kept = self.store.get(self.model, COUNTED) or {}
        if kept.get("deployment") != live.id:  # another version's scores are on another scale
            kept = {"deployment": live.id, "until": live.at.isoformat(), "labels": 0, "cameras": {}}
        since = datetime.fromisoformat(kept["until"])
        while since < end:
            until = min(since + AT_ONCE, end)
            cameras = {name: Counted.from_json(one) for name, one in kept["cameras"].items()}
            cameras = self.counted(cameras, Window(since, until), version)
            labels = self.store.count_labels(self.model, live.at)
            if labels != kept["labels"] and until == end:
                cameras = self.labelled(cameras, Window(live.at, until), version)
            judged = {name: self.judged(name, camera, version, live.id) for name, camera in cameras.items()}
            found = {name: camera.to_json() for name, camera in judged.items()}
            seen = labels if until == end else kept["labels"]
            kept = {"deployment": live.id, "until": until.isoformat(), "labels": seen, "cameras": found}
            self.store.put(self.model, COUNTED, kept)
            since = until

    def counted(self, cameras: Mapping[str, Counted], window: Window, version: int) -> dict[str, Counted]:
        """With what was said in the window."""
        found = dict(cameras)
        for prediction in self.store.predictions(self.model, window, version):
            name = camera_of(prediction)
            if name is not None and (name in found or len(found) < MOST_CAMERAS):
                camera = found.get(name, Counted())
                found[name] = replace(camera, levels=camera.levels.changed([prediction.measures[LEVEL]]))
        return found

    def labelled(self, cameras: Mapping[str, Counted], window: Window, version: int) -> dict[str, Counted]:
        """With what people have said; all of it each time, for a label may name an earlier time than it came at."""
        pairs = self.store.labelled(self.model, window, version, sources=frozenset(Source))
        return {
            name: camera.labelled([pair for pair in pairs if camera_of(pair[0]) == name])
            for name, camera in cameras.items()
        }

    def judged(self, name: str, camera: Counted, version: int, deployment: int) -> Counted:
        """Its threshold judged anew where it has shown enough; the judgement is stored before it holds."""
        base, window_s = self.terms(version, name)
        decision = judge(name, base, camera.levels, window_s, camera.judged)
        if decision is None:
            return camera
        # repeated after a kill it is the same; without the camera's name, which may have to be forgotten
        id_ = f"threshold-{deployment}-{text_group(name)[:12]}-{camera.levels.n}-{len(camera.anomalies)}"
        self.store.add_decision(self.model, f"threshold {name}", decision, self.clock.now(), id=id_)
        if decision.outcome is Outcome.PASS:
            kept = self.store.get(self.model, REFINED) or {}
            others = kept["cameras"] if kept.get("version") == version else {}
            cameras = {**others, name: decision.evidence["threshold"]}
            self.store.put(self.model, REFINED, {"version": version, "cameras": cameras})
        return replace(camera, judged=1 if decision.outcome is Outcome.WAIT else camera.levels.n)


def camera_of(prediction: Prediction) -> str | None:
    """The camera that a caller named for a stream's window; None for a session without a name, and all else."""
    if prediction.stage != STREAM or LEVEL not in prediction.measures:
        return None
    return prediction.key if prediction.key != prediction.context.get("stream") else None
