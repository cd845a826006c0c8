"""`keepfit demo`: the whole loop on this machine, over real HTTP, in about five minutes."""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.app.demo.report import Moment, curve, share, write
from keepfit.app.demo.stage import Stage
from keepfit.app.demo.traffic import Client, Labeller, Traffic
from keepfit.app.demo.worlds import Worlds, baseline, from_files, generated, write_csv
from keepfit.app.project import Project
from keepfit.errors import BackendError, Refused

SEED = 7
ROWS = 1500
RATE = 18.0
LABEL_RATE = 0.9
NEW_LABELS = 1090
"""Some 290 of them come before the change, so that 800 say what has changed."""
LABEL_DELAY = 4.0
FLOOR = 0.80
MARGIN = 0.10
"""By how much TF-IDF with logistic regression must trail on the generated reviews, or they prove nothing."""
QUIET = 18.0
"""Seconds of traffic before the change, and after the swap."""
PATIENCE = 360.0
"""Seconds to wait for the swap after the change."""

SETTINGS = """\
[server]
port = {port}

[alerts]
group_for = "1s"

[models.reviews]
cooldown = "90s"

[models.reviews.recipe]
start = "warm"
warm_share = 1.0  # much turns here: after six tenths, the default, some trainings had hardly begun to learn it
max_tokens = {max_tokens}
epochs = {epochs}
batch_size = 16
learning_rate = 3e-4

[models.reviews.watch]
every = "2s"
window = "20s"
label_window = "25s"
label_rate = {label_rate}
label_budget = 1000000
label_parts = {{uniform = 1.0, disagreement = 0.0, uncertain = 0.0}}  # nearly everything is asked for anyway
holdout = 0.3
recent_share = 0.7

[models.reviews.gate]
guard_margin = 0.15
max_negative_flips = 0.2

[[models.reviews.triggers]]
kind = "all_of"
triggers = [{{ kind = "accuracy_floor", floor = {floor} }}, {{ kind = "new_labels", amount = {new_labels} }}]
"""


@dataclass
class Story:
    """What has happened so far."""

    moments: list[Moment] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def tell(self, at: float, what: str, words: str) -> None:
        """One thing more."""
        self.moments.append(Moment(at, what, words))

    def at(self, what: str) -> float | None:
        """When a thing happened first."""
        return next((m.at for m in self.moments if m.what == what), None)


def run(out: Path, data: Path | None, drift: Path | None, quiet: bool) -> Mapping[str, Any]:
    """Play it, write the report into `out`, and return the result; `ok` is true when the loop closed."""
    started = time.monotonic()
    if drift is not None and data is None:
        raise Refused("--drift needs --data; give both, or neither")
    worlds = generated(SEED, ROWS) if data is None else from_files(data, drift, SEED)
    home = fresh_folder(out)
    with Stage(quiet) as stage:
        stage.phase("training the first model")
        port = free_port()
        epochs = 2.5 if worlds.generated else 2
        (home / "keepfit.toml").write_text(
            SETTINGS.format(port=port, max_tokens=worlds.max_tokens, epochs=epochs, floor=FLOOR, label_rate=LABEL_RATE,
                            new_labels=NEW_LABELS), "utf-8")  # fmt: skip
        project = Project(home, "reviews")
        write_csv(out / "reviews.csv", worlds.train)
        first = project.train(out / "reviews.csv", stage.training)
        if not first["deployed"]:
            raise BackendError("the first model did not pass its own floors: " + "; ".join(first["because"]))
        plain = baseline(worlds.train, worlds.test)
        write_csv(out / "held_out.csv", worlds.test)
        held_out = float(project.evaluate(out / "held_out.csv")["metrics"]["accuracy"]["value"])
        stage.note(f"held-out accuracy {held_out:.3f}; TF-IDF with logistic regression {plain:.3f}")
        story = Story()
        story.tell(0.0, "trained", f"version 1 is trained: {held_out:.3f} on held-out reviews (TF-IDF: {plain:.3f})")
        traffic = play(project, port, worlds, stage, story)
        result = summary(project, traffic, story, held_out, plain, started)
        result["ok"] = closed(result, worlds)
        write(out, result, traffic.seen, story.moments)
        check(result, worlds)
        stage.phase("done")
    project.close()
    Stage.farewell(result, out, quiet)
    return result


def fresh_folder(out: Path) -> Path:
    """An empty project folder below `out`; an earlier demo's is replaced, anything else is refused."""
    home = out / "project"
    if home.exists() and not (home / "keepfit.toml").exists():
        raise Refused(f"{home} is there and no project of the demo; choose another --out")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return home


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def play(project: Project, port: int, worlds: Worlds, stage: Stage, story: Story) -> Traffic:
    """Serve, let the world change, and follow what keepfit does about it."""
    log = (project.folder / "up.log").open("wb")
    up = subprocess.Popen(
        [sys.executable, "-m", "keepfit.app.cli", "up", "--project", str(project.folder)], stdout=log, stderr=log
    )
    traffic = Traffic(port, RATE, worlds.before)
    labeller = Labeller(traffic, LABEL_DELAY)
    try:
        stage.phase("starting the server and the worker")
        until(lambda: ready(port), 90.0, "the server did not start; see project/up.log")
        traffic.start()
        labeller.start()
        stage.phase("steady traffic in the world it was trained for")
        follow(project, traffic, labeller, stage, story, lambda: traffic.now() > QUIET)
        story.tell(traffic.change(worlds.after), "change", "the world changes: new products, words that turn")
        stage.phase("the world has changed; labels come in late")
        follow(project, traffic, labeller, stage, story, lambda: story.at("swap") or over(story, traffic.now()))
        if (swap := story.at("swap")) is not None:
            stage.phase("the new version answers")
            follow(project, traffic, labeller, stage, story, lambda: traffic.now() > swap + QUIET)
        elif story.at("failure") is None and story.at("refused") is None:
            words = f"gave up after {PATIENCE:.0f} s without a swap: the machine is too busy for this story"
            story.tell(traffic.now(), "late", words)
    finally:
        labeller.stop()
        traffic.stop()
        up.terminate()
        up.wait(60)
        log.close()
    return traffic


def ready(port: int) -> bool:
    """Does the server answer?"""
    client = Client(port)
    try:
        return client.call("GET", "/health/ready")[0] == 200
    except OSError:
        return False
    finally:
        client.close()


def until(condition: Callable[[], object], seconds: float, words: str) -> None:
    """Wait for a condition. Raises BackendError when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BackendError(words)
        time.sleep(0.2)


def over(story: Story, now: float) -> bool:
    """Has the swap been waited for long enough, or has the retraining failed?"""
    change = story.at("change") or 0.0
    return now > change + PATIENCE or story.at("failure") is not None or story.at("refused") is not None


def follow(
    project: Project, traffic: Traffic, labeller: Labeller, stage: Stage, story: Story, done: Callable[[], object]
) -> None:
    """Show what happens until `done`."""
    while not done():
        watch(project, traffic, story)
        recent = [s for s in traffic.seen[-200:] if s.at > traffic.now() - 8]
        stage.show(traffic, share(recent), labeller.labels, story.moments)
        time.sleep(0.5)


def watch(project: Project, traffic: Traffic, story: Story) -> None:
    """New decisions and deployments, as they are recorded."""
    for stored in reversed(project.decisions(50)):
        if stored.id in story.told:
            continue
        story.told.add(stored.id)
        decision, words = stored.decision, "; ".join(stored.decision.because)
        if stored.subject == "trigger" and decision.outcome == "fire" and not decision.evidence.get("joined"):
            story.tell(traffic.now(), "alarm", f"alarm: {words}")
        elif stored.subject.startswith("gate v") and stored.subject != "gate v1":
            passed = decision.outcome == "pass"
            verdict = "passes" if passed else "is refused"
            story.tell(
                traffic.now(), "gate" if passed else "refused", f"version {stored.subject[6:]} {verdict}: {words}"
            )
        elif stored.subject == "retrain":
            story.tell(traffic.now(), "failure", words)
    newest = project.store.deployment(project.model)
    if newest is not None and newest.applied and newest.id > 1 and story.at("swap") is None:
        version = max(newest.traffic.shares)
        story.tell(traffic.now(), "swap", f"version {version} answers; version 1 is kept warm (keepfit rollback)")


def summary(
    project: Project, traffic: Traffic, story: Story, held_out: float, plain: float, started: float
) -> dict[str, Any]:
    """The numbers of the story."""
    change, swap = story.at("change") or math.inf, story.at("swap")
    before = [s for s in traffic.seen if s.at <= change]
    worst = [v for t, v in zip(*curve(traffic.seen), strict=True) if t > change]
    after = [s for s in traffic.seen if swap is not None and s.at > swap and s.version > 1]
    failed = sum(s.failed for s in traffic.seen)
    jobs = project.store.jobs(project.model, kind="retrain")
    latencies = sorted(s.latency_s for s in traffic.seen if not s.failed)
    mails = len(list((project.folder / ".keepfit" / "mailbox").glob("*.eml")))
    result: dict[str, Any] = {
        "ok": False,
        "accuracy_before": share(before),
        "accuracy_worst": min(worst, default=float("nan")),
        "accuracy_after": share(after),
        "alarms": sum(m.what == "alarm" for m in story.moments),
        "retrains": len(jobs) - 1,
        "promoted_version": None if swap is None else project.champion(),
        "predictions": len(traffic.seen) - failed,
        "failed_requests": failed,
        "seconds": round(time.monotonic() - started, 1),
        "seconds_from_change_to_alarm": seconds(change, story.at("alarm")),
        "seconds_from_change_to_swap": seconds(change, swap),
        "accuracy_held_out": held_out,
        "accuracy_tfidf": plain,
        "latency_median_ms": round(1000 * latencies[len(latencies) // 2], 1) if latencies else None,
        "emails": mails,
        "floor": FLOOR,
    }
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in result.items()}


def closed(result: Mapping[str, Any], worlds: Worlds) -> bool:
    """Whether the new version answered without a failed request, and well.

    A user's own files may change beyond what some hundred labels can teach: there it must only be better than the
    worst.
    """
    if result["promoted_version"] is None or result["failed_requests"]:
        return False
    enough = FLOOR if worlds.generated else result["accuracy_worst"]
    return bool((result["accuracy_after"] or 0.0) > (enough or 0.0))


def seconds(since: float, at: float | None) -> float | None:
    """From one moment to another."""
    return None if at is None or math.isinf(since) else round(at - since, 1)


def check(result: Mapping[str, Any], worlds: Worlds) -> None:
    """The generated reviews must be worth a transformer. Raises BackendError when a plain model nearly keeps up."""
    if worlds.generated and result["accuracy_held_out"] - result["accuracy_tfidf"] < MARGIN:
        raise BackendError(
            f"TF-IDF reaches {result['accuracy_tfidf']:.3f}, the transformer {result['accuracy_held_out']:.3f} on the"
            " generated reviews: they are too easy to show anything; please report this"
        )
