"""Kill -9 at each step of a retraining and of a batch job, start again, and compare with a run that was left alone.

    python -m benchmarks.crash [--task toy|text]

Each retraining is killed twice per step: before its effects, and after them but before they are on record, which is
where things are done twice. Writes benchmarks/results/crash.json; exits 1 when anything differs.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS
from mlflow import MlflowClient

from benchmarks.results import save, table
from keepfit.app.project import Project
from keepfit.data.records import Example, JobState, Label, Prediction, Source
from keepfit.pipelines.progress import STEPS
from keepfit.pipelines.retrain import Retraining, State
from keepfit.tasks.task import predict

MODEL = "default"
WHEN = ("before", "after")
LIVE = datetime(2025, 1, 1, tzinfo=UTC)
"""When the answers were given; the same in each run, so that the snapshots can be compared by their hash."""
BATCH_ROWS = 6000
BATCH_KILLS = (0, 1, 2)


@dataclass(frozen=True)
class Killed(Retraining):
    """A retraining whose process dies at one step, like in a power cut."""

    at: str = ""
    when: str = ""

    def step(self, name: str, state: State) -> State:
        if (name, "before") == (self.at, self.when):
            os.kill(os.getpid(), signal.SIGKILL)
        after = super().step(name, state)
        if (name, "after") == (self.at, self.when):
            os.kill(os.getpid(), signal.SIGKILL)
        return after


class Doomed(Project):
    """A project whose retraining is killed."""

    at = when = ""

    def retraining(self, model: str, report: Any = lambda metrics, step: None) -> Retraining:
        made = super().retraining(model, report)
        values = {f.name: getattr(made, f.name) for f in fields(Retraining)}
        return Killed(**values, at=self.at, when=self.when)


def prepare(folder: Path, task: str) -> None:
    """A project with one version, live answers and labels of a changed world."""
    folder.mkdir(parents=True)
    recipe = "recipe = { max_tokens = 32, epochs = 1 }\n" if task == "text" else ""
    (folder / "keepfit.toml").write_text(f'[models.{MODEL}]\ntask = "{task}"\n{recipe}', "utf-8")
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for i in range(300):
            word, label = ("good", "pos") if i % 2 else ("bad", "neg")
            writer.writerow((f"{word} thing number {i}", label))
    project = Project(folder)
    project.train(folder / "data.csv")
    model = project.retraining(MODEL).task.load(project.registry.fetch(MODEL, 1))
    now, pairs, labels = LIVE, [], []
    for i in range(120):
        example = Example(f"awful thing number {i}", now, id=f"live-{i}")
        output = predict(model, [example.content])
        pairs.append((example, Prediction(example.id, 1, model.labels, output.scores[0], output.embeddings[0], now)))
        labels.append(Label(example.id, "neg", now, Source.ASKED, "bench", 1.0))
    project.store.add_predictions(MODEL, pairs)
    project.store.add_labels(MODEL, labels)
    project.close()


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a kill might have doubled, lost or changed."""
    project = Project(folder)
    versions = project.registry.versions(MODEL)
    found = {
        "versions": len(versions),
        "accuracy": [round(v.evaluation.metrics["accuracy"].value, 6) for v in versions],
        "snapshots": sorted({v.lineage.snapshot_id for v in versions}),
        "runs": count_runs(project),
        "deployments": [list(d.traffic.shares) for d in project.history()],
        "gates": sum(d.subject.startswith("gate") for d in project.decisions(1000)),
        "jobs": [j.state.value for j in project.store.jobs(MODEL)],
        "labels": len(project.store.training_data(MODEL)),
    }
    project.close()
    return found


def count_runs(project: Project) -> int:
    """MLflow runs of training: one per version, however often its step was begun."""
    client = MlflowClient(f"sqlite:///{(project.home.state / 'mlflow.db').absolute()}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return len([r for r in client.search_runs(experiments) if r.info.run_name != "monitoring"])


def child(*arguments: str) -> int:
    """This file again, as another process."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.crash", *arguments], capture_output=True, timeout=600, check=False
    ).returncode


def retrain_killed(folder: Path, at: str, when: str) -> None:
    """In a child: retrain, and die on the way."""
    project = Doomed(folder)
    Doomed.at, Doomed.when = at, when
    project.retrain(wait=True)


def resume(folder: Path) -> None:
    """In a child: what a worker does when it starts after a kill, until nothing is left to do."""
    project = Project(folder)
    with project.working() as worker:
        worker.take_up()
        end = time.monotonic() + 300
        while project.store.jobs(states=[JobState.RUNNING, JobState.WAITING]) or DBOS.list_workflows(status="PENDING"):
            if time.monotonic() > end:
                sys.exit(1)
            time.sleep(0.1)


def batch_killed(folder: Path, at: int) -> None:
    """In a child: score a file, and die after some chunks."""
    calls = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal calls
        if calls == at and at >= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1

    Project(folder).batch(folder / "in.csv", folder / "out.csv", progress)


def retrainings(root: Path, task: str) -> list[dict[str, Any]]:
    """One row per kill."""
    prepare(root / "alone", task)
    assert child("--retrain", str(root / "alone"), "none", "none") == 0, "the run that is left alone must succeed"
    expected = outcome(root / "alone")
    rows = [{"kill": "none", "same": True, **expected}]
    for at in STEPS:
        for when in WHEN:
            folder = root / f"{at}-{when}"
            prepare(folder, task)
            killed = child("--retrain", str(folder), at, when) == -signal.SIGKILL
            resumed = child("--resume", str(folder)) == 0
            found = outcome(folder)
            rows.append({"kill": f"{when} {at}", "same": killed and resumed and found == expected, **found})
            print(
                f"  {when} {at}: {'same' if rows[-1]['same'] else f'differs: {found} instead of {expected}'}",
                flush=True,
            )
    return rows


def batches(root: Path) -> list[dict[str, Any]]:
    """One row per kill of a batch job."""
    folder = root / "alone"
    with (folder / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "n"))
        writer.writerows((f"{'good' if i % 3 else 'bad'} row {i}", i) for i in range(BATCH_ROWS))
    assert child("--batch", str(folder), "-1") == 0, "the batch that is left alone must succeed"
    expected = (folder / "out.csv").read_bytes()
    rows = []
    for at in BATCH_KILLS:
        (folder / "out.csv").unlink()
        killed = child("--batch", str(folder), str(at)) == -signal.SIGKILL
        hidden = not (folder / "out.csv").exists()
        resumed = child("--batch", str(folder), "-1") == 0
        same = killed and hidden and resumed and (folder / "out.csv").read_bytes() == expected
        rows.append({"kill": f"batch after chunk {at}", "same": same})
        print(f"  batch after chunk {at}: {'same' if same else 'differs'}", flush=True)
    return rows


def main() -> int:
    """All kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="toy", choices=("toy", "text"))
    parser.add_argument("--retrain", nargs=3, metavar=("FOLDER", "STEP", "WHEN"))
    parser.add_argument("--resume", metavar="FOLDER")
    parser.add_argument("--batch", nargs=2, metavar=("FOLDER", "CHUNK"))
    given = parser.parse_args()
    if given.retrain:
        retrain_killed(Path(given.retrain[0]), given.retrain[1], given.retrain[2])
        return 0
    if given.resume:
        resume(Path(given.resume))
        return 0
    if given.batch:
        batch_killed(Path(given.batch[0]), int(given.batch[1]))
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        rows: list[Mapping[str, Any]] = [*retrainings(Path(root), given.task), *batches(Path(root))]
    ok = all(row["same"] for row in rows)
    table("Kill -9 and start again", [{"kill": r["kill"], "same result": r["same"]} for r in rows])
    save("crash", {"task": given.task, "ok": ok, "seconds": round(time.monotonic() - started, 1), "kills": list(rows)})
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
