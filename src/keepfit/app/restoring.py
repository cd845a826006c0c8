"""Restoring a backup: verified aside, upgraded there, and put in place at the end.

Nothing of the project is touched before every hash was found right. What was there stays beside it as
`.keepfit.before-restore-TIME` (rows of a PostgreSQL database that are replaced are gone, and this is said before).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sqlalchemy import Engine

from keepfit.app.backing import file_of, jobs_database, kind_of, registry_database, tracking_url
from keepfit.app.settings import FILE, load
from keepfit.app.wiring import LATE, Home, named
from keepfit.app.worker import WorkerLock
from keepfit.data.archive import settle
from keepfit.data.cut import Progress, check_whole, counted, moved
from keepfit.data.database import open_database
from keepfit.data.schema import DEPLOYMENTS, LABELS, PREDICTIONS
from keepfit.data.store import RecordStore
from keepfit.data.unpacking import about, unpack
from keepfit.errors import BackendError, KeepfitError, Refused
from keepfit.pipelines.backup import DATABASES, JOBS, RECORDS, REGISTRY, SEARCHES, SETTINGS, STATE, state_files
from keepfit.pipelines.restore import begin_again, cancel_workflows, is_record, move_jobs, pour, refuse_newer
from keepfit.telling import Tell

KINDS = {"local": "plain files", "server": "an MLflow server", "database": "MLflow's tables"}


@dataclass(frozen=True)
class Restore:
    """A restore into one folder."""

    source: Path
    folder: Path
    replace: bool
    environ: Mapping[str, str]
    actor: str
    tell: Tell

    def run(self) -> dict[str, Any]:
        """Do it; what was restored.

        Raises InvalidInput for a backup that is damaged or none, Refused for one of a newer release, for a target that
        holds something (without `replace`) or that a worker uses, BackendError when a disk or database fails.
        """
        known = about(self.source)
        refuse_newer(known, self.source)
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / FILE).exists():
            self.check_target(Home(self.folder, load(self.folder, self.environ)))  # before much is read
        staged = Path(mkdtemp(prefix=".restoring-", dir=self.folder))
        try:
            manifest = self.unpacked(staged)
            own = (self.folder / FILE).exists()
            (staged / SETTINGS).mkdir(exist_ok=True)
            home = Home(self.folder, load(self.folder if own else staged / SETTINGS, self.environ))
            self.check_target(home)
            self.check_kinds(home, manifest)
            done = self.prepared(staged, home, manifest)
            self.put_in_place(staged, home, own)
            return {**done, "settings": "its own" if own else "from the backup", "folder": str(self.folder)}
        except OSError as error:
            raise BackendError(f"{self.folder} cannot be written: {error}; make room, then restore again") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def unpacked(self, staged: Path) -> dict[str, Any]:
        """Every file, verified."""
        done = 0

        def hear(count: int) -> None:
            nonlocal done
            done += count
            self.tell("verifying", done, None)

        return unpack(self.source, staged, hear)

    def check_target(self, home: Home) -> None:
        """Raises Refused when something would be lost and `replace` was not said."""
        if self.replace:
            return
        lost = held(home)
        if lost:
            raise Refused(
                f"{self.folder} is not empty: {'; '.join(lost)}. Choose another folder with --to, or give --replace to "
                "put the backup in its place (files stay beside it in .keepfit.before-restore-TIME; rows of a "
                "PostgreSQL database are lost)"
            )

    def check_kinds(self, home: Home, manifest: Mapping[str, Any]) -> None:
        """Raises Refused where the settings want a registry that the backup cannot fill."""
        has, wanted = manifest["tracking"], kind_of(home.settings.tracking)
        if has != wanted:
            raise Refused(
                f"this backup has its versions in {KINDS[has]}, and the settings of {self.folder} want them in "
                f"{KINDS[wanted]} [tracking]; set tracking as it was to restore it"
            )

    def prepared(self, staged: Path, home: Home, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The databases as they are to be, still aside."""
        databases = staged / DATABASES
        for path in sorted(databases.glob("*.db")):
            with closing(sqlite3.connect(path)) as conn:
                check_whole(conn, path.name)
        old, new = str(manifest["state"]), str(home.state.absolute())
        with RecordStore.open(f"sqlite:///{databases / f'{RECORDS}.db'}", home.clock) as store:  # it is upgraded here
            now = home.clock.now()
            checked = store.verify_audit()
            begun = begin_again(store, now)
            move_jobs(store, old, new)
            said = {"made": manifest["made"], "interrupted": list(begun.interrupted), "keepfit": manifest["keepfit"]}
            store.note("", self.actor, "restore", self.source.name, said, now)
        with closing(sqlite3.connect(databases / f"{RECORDS}.db")) as conn:
            conn.execute("PRAGMA journal_mode=DELETE")
        if (databases / f"{JOBS}.db").is_file():
            cancel_workflows(databases / f"{JOBS}.db")
        if old != new and (databases / f"{REGISTRY}.db").is_file():
            moved(databases / f"{REGISTRY}.db", old, new)
        return {
            "made": manifest["made"], "keepfit": manifest["keepfit"], "schema": manifest["schema"],
            "files": len(manifest["files"]), "audit": {"whole": checked.whole, "entries": checked.entries},
            "interrupted": list(begun.interrupted), "scored_anew": list(begun.anew), "waiting": begun.waiting,
            "missing": list(manifest.get("missing", ())), "not_in": list(manifest["not_in"]),
        }  # fmt: skip

    def put_in_place(self, staged: Path, home: Home, own_settings: bool) -> None:
        """Rows into databases elsewhere first, then the folder, then the settings: a kill before the last can be
        repaired by the same command with --replace.
        """
        elsewhere = file_of(home.store_url) is None
        store = RecordStore.open(home.store_url, home.clock) if elsewhere else None
        lock = WorkerLock(home.state, store)
        lock.acquire()
        try:
            state = staged / STATE
            state.mkdir(exist_ok=True)
            self.fill_databases(staged / DATABASES, state, home)
            kept = self.folder / f"{home.state.name}.before-restore-{home.clock.now():%Y%m%dT%H%M%SZ}"
            os.replace(home.state, kept)
            os.replace(state, home.state)
            if not any(state_files(kept)):
                shutil.rmtree(kept, ignore_errors=True)
            if not own_settings and (staged / SETTINGS / FILE).is_file():
                os.replace(staged / SETTINGS / FILE, self.folder / FILE)
            settle(self.folder)
        finally:
            lock.release()
            if store is not None:
                store.close()

    def fill_databases(self, databases: Path, state: Path, home: Home) -> None:
        """Each into a file of the new state, or into the database that the settings name."""
        make_jobs, jobs_engine, schema = jobs_database()
        to = (home, state)
        self.fill(databases, JOBS, home.jobs_url, to, lambda url: (make_jobs(url), jobs_engine(url))[1], schema)
        self.fill(databases, RECORDS, home.store_url, to, lambda url: open_database(url).engine, None)
        if (url := tracking_url(home)) is not None:
            make, engine = registry_database()
            artifacts = str(home.state / "mlartifacts")
            self.fill(databases, REGISTRY, url, to, lambda url: (make(url, artifacts), engine(url))[1], None)
        trials = file_of(home.tuning_url)
        if (databases / f"{SEARCHES}.db").is_file() and trials is not None and trials.parent == home.state.absolute():
            os.replace(databases / f"{SEARCHES}.db", state / trials.name)

    def fill(
        self, databases: Path, name: str, url: str, to: tuple[Home, Path], opened: Callable[[str], Engine],
        schema: str | None,
    ) -> None:  # fmt: skip
        """One of them."""
        home, state = to
        source = databases / f"{name}.db"
        if not source.is_file():
            return
        path = file_of(url)
        if path is None:
            engine: Engine = opened(url)
            wanted = {RECORDS: is_record, REGISTRY: named(LATE["registry_table"])}.get(name, lambda table: True)
            try:
                pour(source, engine, schema, wanted, self.progress(f"filling the {name}"))
            finally:
                engine.dispose()
        elif path.parent == home.state.absolute():
            os.replace(source, state / path.name)
        else:
            if path.exists():
                os.replace(path, path.with_name(f"{path.name}.before-restore-{home.clock.now():%Y%m%dT%H%M%SZ}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            settle(path)

    def progress(self, what: str) -> Progress:
        """For one of the works."""
        return lambda done, of: self.tell(what, done, of)


def held(home: Home) -> list[str]:
    """What the project holds that a restore would put aside, as phrases; nothing when it is empty."""
    said = []
    files = list(state_files(home.state))
    path = file_of(home.store_url)
    if path is None or path.is_file():
        said += records_of(home)
    if (url := tracking_url(home)) is not None and file_of(url) is None and (runs := named(LATE["registry_runs"])(url)):
        said.append(f"the MLflow database of [tracking] holds {runs} runs and models, of whomever")
    if not said and (path is None or not path.is_file()) and files:
        said.append(f"{home.state} has {len(files)} files")
    return said


def records_of(home: Home) -> list[str]:
    """What the record store holds."""
    try:
        database = open_database(home.store_url)
    except KeepfitError as error:
        return [f"its records cannot be read ({error})"]
    try:
        with database.read() as conn:
            counts = {table.name: counted(conn, [table]) for table in (PREDICTIONS, LABELS, DEPLOYMENTS)}
    finally:
        database.engine.dispose()
    answers, labels, deployments = counts.values()
    some = any(counts.values())
    return [f"it holds {answers} answers, {labels} labels and {deployments} deployments"] if some else []
