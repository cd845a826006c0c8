"""One pruning, told from top to bottom: what is over its limit, what of that must stay, and then the deletions.

Nothing is deleted that `keeping` holds; versions are judged once more at the moment of their deletion. Each deletion is
whole: rows go in one transaction with what belongs to them, folders give up their name first, and a record is written
before its files go, so that a kill leaves at most files without a use, which the next pruning finds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from keepfit.data.retention import REMOVED, StoredRows
from keepfit.data.rewriting import snapshots
from keepfit.data.snapshot import REWRITTEN
from keepfit.data.sole import KEEPING, keeping
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError
from keepfit.pipelines.keeping import Judged, Thing, held_versions
from keepfit.pipelines.overdue import DAY, HIDDEN, Overdue, beside, modified
from keepfit.tasks.text.hidden import keep_only

SHOWN = 100
"""Things that a decision names."""
GOING = ".going-"
ROWS = ("predictions", "quiet checks")


@dataclass(frozen=True)
class Pruned:
    """What went, and what was kept against a policy."""

    gone: tuple[Judged, ...] = ()
    kept: tuple[Judged, ...] = ()
    freed: int = 0
    """Bytes on the disk."""
    inside: int = 0
    """Bytes within the database, roughly; the database uses them again, `--vacuum` gives them back to the disk."""


@dataclass(frozen=True)
class Prune:
    """The pruning of one project."""

    overdue: Overdue
    delete_study: Callable[[str], None] = lambda name: None

    def plan(self) -> Pruned:
        """What `run` would do."""
        plan = self.overdue.plan()
        return summed([one for one in plan if one.goes], [one for one in plan if not one.goes])

    def run(self, actor: str, wait: float = 0) -> Pruned:
        """Delete what goes, and store the decision, also when it is stopped half-way.

        Raises Refused when a backup or a forgetting runs for longer than `wait` seconds.
        """
        with keeping(self.overdue.store.sole(KEEPING), "a pruning", wait):
            return self.carry_out(actor)

    def carry_out(self, actor: str) -> Pruned:
        """All of it, while nobody reads the files that go."""
        self.sweep()
        plan, gone = self.plan(), list[Judged]()
        done = summed((), plan.kept)
        try:
            for one in plan.gone:
                if self.delete(one):
                    gone.append(one)
            if any(one.thing.kind == "snapshot" for one in gone):
                gone += self.without_texts()
        finally:
            done = summed(gone, plan.kept)
            self.remember(done, actor)
        return done

    def without_texts(self) -> list[Judged]:
        """What was computed from texts goes with the last snapshot that held them."""
        places, now = self.overdue.places, self.overdue.clock.now()
        contents = (row.content for snapshot in snapshots(places.snapshots) for row in snapshot.stored())
        count, size = keep_only(places.hidden, contents)
        thing = Thing(HIDDEN, "", now, size, count=count)
        return [Judged(thing, True, "no snapshot has these texts any more")] if count else []

    def remember(self, done: Pruned, actor: str) -> None:
        """A decision for each model that lost something; the first, which speaks for what is shared, in any case."""
        known = self.overdue
        for model in known.all_models():
            first = model == known.models[0]
            gone = [one for one in done.gone if one.thing.model == model or (first and not one.thing.model)]
            if not gone and not first:
                continue
            part = summed(gone, ())
            because = tuple(f"pruned {one}" for one in gone[:SHOWN]) or ("nothing that may go is over its limit",)
            evidence: dict[str, Any] = {"actor": actor, "pruned": len(gone), "freed": part.freed, "inside": part.inside}
            now = known.clock.now()
            known.store.add_decision(model, "prune", Decision(Outcome.PASS, because, evidence), now)
            if gone:
                known.store.note(model, actor, "prune", "retention", evidence, now)

    def delete(self, one: Judged) -> bool:
        """Delete one thing; false when it must stay after all."""
        thing, now, known = one.thing, self.overdue.clock.now(), self.overdue
        rows = StoredRows(known.store.database)
        if thing.kind == "version":
            return self.remove_version(thing.model, int(thing.name))
        if thing.kind == "run":
            known.registry.remove_run(thing.model, thing.name)
        elif thing.kind == "search":
            self.delete_study(thing.name)
        elif thing.kind == "predictions":
            before = known.looked_at_since(thing.model, now)
            while rows.delete_predictions(thing.model, known.policy.predictions, now, before):
                pass
        elif thing.kind == "quiet checks":
            rows.delete_waits(thing.model, known.policy.quiet_checks, now)
        elif thing.kind == "snapshot" and not known.still_unneeded(thing.name):
            return False
        else:
            for path in self.files(thing):
                delete_path(path)
        return True

    def remove_version(self, model: str, number: int) -> bool:
        """Delete a version's files, unless something needs them by now.

        It is noted first that they go, where rollback reads it, so that it never goes to a version without files.
        """
        store, registry, at = self.overdue.store, self.overdue.registry, self.overdue.clock.now()
        noted = store.get(model, REMOVED) or {}
        about = noted.get(str(number), {"at": at.isoformat()})
        store.put(model, REMOVED, {**noted, str(number): about})  # from here on nobody goes to it; so judge again
        if number in held_versions(self.overdue.standing(model)):
            if registry.version(model, number).removed is None:
                store.put(model, REMOVED, {name: value for name, value in noted.items() if name != str(number)})
            return False
        registry.remove(model, number, at)
        store.put(model, REMOVED, {**noted, str(number): {**about, "done": True}})
        return True

    def files(self, thing: Thing) -> list[Path]:
        """The files and folders of a thing, that first by which it exists."""
        places = self.overdue.places
        if thing.kind == "snapshot":
            return [places.snapshots / f"{thing.name}.parquet", places.snapshots / f"{thing.name}.json"]
        if thing.kind == "video":
            return [places.videos / thing.name, *beside(places.videos / thing.name)]
        if thing.kind == "backtest":
            return [] if places.backtests is None else [places.backtests / thing.name]
        folder = {"checkpoint": places.work, "batch": places.batches, "alert": places.mailbox, HIDDEN: places.hidden}
        return [folder[thing.kind] / thing.name]

    def sweep(self) -> None:
        """Finish deletions that a kill has interrupted."""
        places, now = self.overdue.places, self.overdue.clock.now()
        for place in (places.work, places.batches, places.videos, places.hidden):
            for left in place.glob(f"{GOING}*"):
                delete_path(left)
        for left in places.snapshots.glob("*.json"):
            alone = not left.with_suffix(".parquet").exists() and left.name != REWRITTEN
            if alone and now - modified(left) > DAY:  # a younger one may belong to a snapshot that is being written
                delete_path(left)
        for model in self.overdue.all_models():
            for number, about in (self.overdue.store.get(model, REMOVED) or {}).items():
                if not about.get("done"):
                    self.remove_version(model, int(number))


def summed(gone: Sequence[Judged], kept: Sequence[Judged]) -> Pruned:
    """The bytes of what went, by where they were."""
    rows = sum(one.thing.size for one in gone if one.thing.kind in ROWS)
    return Pruned(tuple(gone), tuple(kept), sum(one.thing.size for one in gone) - rows, rows)


def delete_path(path: Path) -> None:
    """Delete a file or a folder; a folder gives up its name first. Raises BackendError."""
    try:
        if path.is_dir() and not path.is_symlink():
            if path.name.startswith(GOING):
                shutil.rmtree(path)
                return
            going = Path(mkdtemp(prefix=GOING, dir=path.parent))
            os.replace(path, going / path.name)
            shutil.rmtree(going)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(f"{path} cannot be deleted ({error}); check its permissions, then prune again") from error
