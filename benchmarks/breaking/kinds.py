"""The faults, one function each: what is broken, for how long, and what must not happen meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.breaking import clocks
from benchmarks.breaking.load import Ledger, Users
from benchmarks.breaking.place import CAREFUL, PLAIN, Place, command, environment
from keepfit.app.project import Project
from keepfit.app.wiring import roller
from keepfit.data.records import Cause, Traffic, new_id
from keepfit.data.schema import METADATA
from keepfit.errors import BackendError
from keepfit.registry.registry import ModelVersion, model_folder
from keepfit.rollout.rollout import under_way

PATIENCE_S = 180.0
"""For what comes by itself; long, because how soon it comes is measured elsewhere (benchmarks.beside)."""
SECOND_S = 150.0
"""On a busy machine a second worker needs long to find out that it is one."""
PAUSE_S = 30.0
"""The worker may be silent for so long while a mail server hangs."""


@dataclass
class Scene:
    """One round: where, with whom, and what came of it."""

    place: Place
    users: Users
    ledger: Ledger
    dice: random.Random
    killed: datetime | None = None
    """When the process that answers was killed."""
    waiting: tuple[datetime, int] | None = None
    """A moment before that, and how many answers waited for the records then."""
    wrong: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    def hold(self, least: float, most: float) -> None:
        """Let the fault last for a random time."""
        time.sleep(self.dice.uniform(least, most))


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    break_it: Callable[[Scene], None]
    weight: int
    """Of 100 rounds, on both stores together."""
    world: str = "plain"
    victims: tuple[str, ...] = ()
    """Parts that are killed; `up` gives up what dies often without having lived for ten seconds."""
    answers: bool = True
    """Whether answering must go on all the while."""
    stores: tuple[str, ...] = ("sqlite", "postgresql")


def kill_server(scene: Scene) -> None:
    """The process that minds the server, the one that answers, or both at once."""
    part = scene.place.part("serve")
    if part is None:
        scene.wrong.append("the server did not run")
        return
    children = part.children(recursive=True)
    chosen = scene.dice.choice([[part], children, [part, *children]])
    scene.waiting = datetime.now(UTC), scene.place.waiting()
    for process in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if chosen != [part]:  # where only its parent dies, the one that answers ends in peace
        scene.killed = datetime.now(UTC)
    scene.place.until(lambda: all(dead(process) for process in [part, *children]), "the old server is gone")


def dead(process: psutil.Process) -> bool:
    """Whether it is no more, whoever has still to be told."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_worker(scene: Scene) -> None:
    """In the middle of whatever it does."""
    part = scene.place.part("worker")
    if part is None:
        scene.wrong.append("the worker did not run")
        return
    part.kill()
    scene.place.until(lambda: dead(part), "the worker is dead")


def kill_both(scene: Scene) -> None:
    """Like a power cut that spares the minder."""
    kill_worker(scene)
    kill_server(scene)


def kill_database(scene: Scene) -> None:
    """The postmaster; it comes back after a moment."""
    assert scene.place.postgres is not None
    scene.place.postgres.kill()
    scene.hold(0.2, 2.5)
    scene.place.postgres.start()


def lock(scene: Scene) -> None:
    """Somebody else holds all tables: seconds, and in every fifth round for longer than anybody is patient."""
    seconds = (12.0, 13.0) if scene.dice.random() < 0.2 else (1.0, 4.0)
    url = scene.place.home.store_url
    if url.startswith("sqlite"):
        names = ["keepfit.db"] if scene.dice.random() < 0.7 else ["keepfit.db", "jobs.db"]
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(exclusive(scene.place.home.state / name))
            scene.hold(*seconds)
        return
    with psycopg.connect(url) as connection:
        lock_tables(connection)
        scene.hold(*seconds)
        connection.rollback()


def lock_tables(connection: psycopg.Connection[Any]) -> None:
    """All of them, one after the other; where PostgreSQL sees a circle with somebody else's locks, once more."""
    while True:
        try:
            connection.execute(f"LOCK TABLE {', '.join(METADATA.tables)} IN ACCESS EXCLUSIVE MODE")
            return
        except psycopg.errors.DeadlockDetected:
            connection.rollback()


@contextlib.contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Hold a SQLite file as its only writer."""
    connection = sqlite3.connect(file, timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def fill_disk(scene: Scene) -> None:
    """Not a byte left on the state's own small file system; where none can be mounted, files may not grow."""
    state = scene.place.home.state
    if not scene.place.mounted:
        with small_files(scene.place):
            scene.hold(1.5, 4.0)
        return
    filler = state / "filler"
    try:
        with filler.open("wb") as file:
            for size in (1 << 22, 1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), file.tell(), size)
                        file.seek(size, os.SEEK_CUR)
        scene.hold(1.5, 4.0)
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_files(place: Place) -> Iterator[None]:
    """The approximation: no process may write beyond the first page of a file."""
    top = psutil.Process(place.up.pid)
    family = [process.pid for process in top.children(recursive=True)]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in family}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def take_mlflow(scene: Scene) -> None:
    """Its database is locked for those who have it open, and not there for those who open it."""
    file = scene.place.home.state / "mlflow.db"
    away = file.with_suffix(".away")
    scene.users.retrain(PLAIN)
    with exclusive(file):
        file.rename(away)
        file.mkdir()
        try:
            scene.hold(1.5, 5.0)
            scene.users.rollback(PLAIN)
        finally:
            file.rmdir()
            away.rename(file)


def jump_clock(scene: Scene) -> None:
    """In this process, on a manual clock; the running project is left alone."""
    scene.wrong += clocks.jump(scene.dice)


def second_of_everything(scene: Scene) -> None:
    """A second worker here and one of another project on the same records, and two more watches at once."""
    scene.users.retrain(PLAIN)
    other = scene.place.folder / f"other-{new_id()[:8]}"
    other.mkdir()
    settings = (scene.place.folder / "keepfit.toml").read_text("utf-8")
    url = scene.place.home.store_url
    (other / "keepfit.toml").write_text(settings if "\nstore" in settings else f'store = "{url}"\n{settings}', "utf-8")
    with both_ended(second_workers(scene.place.folder, other)) as workers, ThreadPoolExecutor(2) as together:
        watches = [together.submit(watch, scene.place.folder) for _ in range(2)]
        for worker in workers:
            words, _ = worker.communicate(timeout=SECOND_S)
            if worker.returncode != 2 or "another worker" not in words:
                scene.wrong.append(f"a second worker ended with {worker.returncode}: {words[-300:]}")
    scene.wrong += [f"a second watch ended with {done.exception()!r}" for done in watches if done.exception()]
    open_jobs = [job.id for job in scene.place.store.jobs(PLAIN, "retrain") if job.finished_at is None]
    if len(open_jobs) > 1:
        scene.wrong.append(f"two retrainings are under way: {open_jobs}")


def watch(folder: Path) -> None:
    """One more beat of the watch, in this process."""
    project = Project(folder, PLAIN, environ={})
    try:
        project.watch(PLAIN).tick()
    finally:
        project.close()


def second_workers(*folders: Path) -> list[subprocess.Popen[str]]:
    """One for each folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return [subprocess.Popen(command(folder, "worker"), env=environment(), **pipes) for folder in folders]


@contextlib.contextmanager
def both_ended(processes: list[subprocess.Popen[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever happens, none of them is left."""
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait(30)


def register(place: Place, model: str, load: str | None = None) -> ModelVersion:
    """Another version, made of the first one's files; `load` names who loads it."""
    first = place.registry.version(model, 1)
    copy = place.folder / f"made-{new_id()}"
    shutil.copytree(place.registry.fetch(model, 1), copy)
    (copy / "manifest.json").unlink()
    if load is not None:
        facts = json.loads((copy / "model.json").read_text("utf-8"))
        facts |= {"task": f"bad-{load}", "load": f"keepfit_bad_challengers:{load}"}
        (copy / "model.json").write_text(json.dumps(facts), "utf-8")
    now = place.home.clock.now()
    lineage = type(first.lineage).from_json({**first.lineage.to_json(), "job_id": new_id()})
    made = place.registry.register(model, copy, lineage, first.evaluation, now)
    shutil.rmtree(copy)
    return made


def corrupt(scene: Scene) -> None:
    """A byte of a registered version is flipped, and then it is deployed."""
    place = scene.place
    number = register(place, PLAIN).number
    file = model_folder(place.home.models, PLAIN, number) / "model.json"
    content = bytearray(file.read_bytes())
    content[scene.dice.randrange(len(content))] ^= 1 << scene.dice.randrange(7)
    file.write_bytes(bytes(content))
    try:
        Project(place.folder, PLAIN, environ={}).promote(number)
        scene.wrong.append(f"the corrupt version {number} could be promoted")
    except BackendError:
        pass
    before = len(scene.ledger.answers)
    cause = Cause("benchmark", "a corrupt version")
    wanted = place.store.deploy(PLAIN, Traffic({number: 1.0}), cause, place.home.clock.now())
    scene.hold(1.5, 2.5)
    # a retraining may end meanwhile
    place.until(lambda: not place.is_ready() or place.store.deployment(PLAIN) != wanted,
                "the server says that it cannot serve what is wanted")  # fmt: skip
    scene.users.rollback(PLAIN)
    place.until(lambda: (live := place.store.deployment(PLAIN)) is not None and number not in live.traffic.shares,
                "the corrupt version is taken back")  # fmt: skip
    served = [one for one in scene.ledger.answers[before:] if one.model == PLAIN and one.version == number]
    scene.wrong += [f"a corrupt version answered: {one}" for one in served[:3]]


def challenge(load: str) -> Callable[[Scene], None]:
    """A canary of a version that does harm."""

    def run(scene: Scene) -> None:
        place = scene.place
        place.until(lambda: not retraining(place, CAREFUL), "no retraining is under way", PATIENCE_S)
        number = register(place, CAREFUL, load).number
        token = new_id()
        cause = Cause("benchmark", f"a challenger: {load}", token=token)
        roller(place.home, CAREFUL, place.store).start(number, cause, {})
        began = time.monotonic()
        place.until(lambda: ended(place, token), "the canary is over", PATIENCE_S)
        scene.notes["seconds to the way back"] = round(time.monotonic() - began, 2)
        live = place.store.deployment(CAREFUL)
        if live is None or number in live.traffic.shares:
            scene.wrong.append(f"the challenger {load} is in use: {live}")

    return run


def retraining(place: Place, model: str) -> bool:
    """Whether one is asked for or running."""
    return place.store.running_or_waiting(model, "retrain") is not None


def ended(place: Place, id_: str) -> bool:
    """Whether the rollout is over."""
    rollout = under_way(place.store, CAREFUL)
    return rollout is None or rollout.id != id_


def hang_mail(scene: Scene) -> None:
    """The mail server takes calls and says nothing; there is something to tell it."""
    longest, last = 0.0, datetime.now(UTC)
    scene.users.retrain(PLAIN)
    end = time.monotonic() + scene.dice.uniform(4, 8)
    while time.monotonic() < end:
        sign = scene.place.store.get("", "worker")
        last = datetime.fromisoformat(sign["at"]) if sign else last
        longest = max(longest, (datetime.now(UTC) - last).total_seconds())
        time.sleep(0.1)
    scene.notes["longest silence of the worker"] = round(longest, 2)
    if longest > PAUSE_S:
        scene.wrong.append(f"the worker was silent for {longest:.1f} s")


KINDS: Mapping[str, Kind] = {
    "server": Kind(kill_server, 22, victims=("serve",), answers=False),
    "worker": Kind(kill_worker, 22, victims=("worker",)),
    "both": Kind(kill_both, 10, victims=("serve", "worker"), answers=False),
    "database": Kind(kill_database, 20, stores=("postgresql",)),
    "locked": Kind(lock, 6),
    "disk": Kind(fill_disk, 6, world="disk", stores=("sqlite",)),
    "mlflow": Kind(take_mlflow, 5, world="mlflow", stores=("sqlite",)),
    "clock": Kind(jump_clock, 6),
    "two": Kind(second_of_everything, 4),
    "corrupt": Kind(corrupt, 6),
    "slow": Kind(challenge("slow"), 3),
    "crash": Kind(challenge("crash"), 3),
    "nan": Kind(challenge("nan"), 3),
    "smtp": Kind(hang_mail, 4, world="smtp"),
}
