"""Verbs of `Project` beside the loop: looking, comparing, keeping order; each is a command of the same name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.app import tokens
from keepfit.app.changing import counted, learnt_by, noted
from keepfit.app.findings import Finding
from keepfit.app.people import actor
from keepfit.app.spending import ledger
from keepfit.app.wiring import LATE, Home, Traits, named
from keepfit.data.chain import AuditEntry, Head
from keepfit.data.classes import ClassChange, ClassMap
from keepfit.data.forgetting import Person
from keepfit.data.inspection import Inspection
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token
from keepfit.decision import Decision
from keepfit.registry.registry import Registry

if TYPE_CHECKING:  # loaded when they are asked for
    from keepfit.monitoring.trust import Standing
    from keepfit.pipelines.forget import Forgotten
    from keepfit.pipelines.prune import Pruned


class Verbs:
    """What a project can be asked, given its parts. Mappings are as the command prints them with --json."""

    home: Home
    model: str

    @property
    def store(self) -> RecordStore:
        """The record store."""
        raise NotImplementedError

    @property
    def registry(self) -> Registry:
        """The registry."""
        raise NotImplementedError

    @property
    def traits(self) -> Traits:
        """What sets the model's task apart."""
        raise NotImplementedError

    def champion(self) -> int:
        """The version that answers. Raises NotFound before the first."""
        raise NotImplementedError

    # -- looking ----------------------------------------------------------------------------------------------

    def status(self) -> Mapping[str, Any]:
        """Where the model stands, as in `GET /status`."""
        found: Mapping[str, Any] = named(LATE["status"])(self)
        return found

    def draw_accuracy(self, target: Path, as_of: datetime | None = None) -> int:
        """Accuracy over time in a picture (.png, .svg, .pdf); how many checks are in it. Raises NotFound before one.

        Each check as it was measured; or, on the labels of today, by the class map of one moment.
        """
        return int(named(LATE["accuracy_plot"])(self.store, self.model, target, as_of))

    def diff(self, first: int, second: int) -> Mapping[str, Any]:
        """What differs between two versions. Raises NotFound."""
        found: Mapping[str, Any] = named(LATE["difference"])(self, first, second)
        return found

    def lineage(self, prediction: str) -> Mapping[str, Any]:
        """Where an answer comes from: version, run, data, gate, deployment and labels. Raises NotFound."""
        found: Mapping[str, Any] = named(LATE["of_prediction"])(
            self.store, self.model, prediction, lambda number: self.registry.version(self.model, number)
        )
        return found

    def made_from(self, snapshot: str) -> Mapping[str, Any]:
        """The versions made from a snapshot (its id, or how that begins), and how much they answered."""
        found: Mapping[str, Any] = named(LATE["of_snapshot"])(
            self.store, self.registry, self.model, self.home.snapshots, snapshot
        )
        return found

    def costs(self, month: str | None = None) -> Mapping[str, Any]:
        """What a month (such as 2026-11; the present one) has cost, with the arithmetic."""
        return ledger(self.home, self.store).report(month)

    def audit(self, limit: int = 20, before: int | None = None) -> Sequence[AuditEntry]:
        """Who changed what about this model, newest first."""
        return self.store.audit_entries(self.model, limit, before)

    def verify_audit(self, head: Head | None = None) -> Inspection:
        """Whether the audit chain of the whole project is as it was written."""
        return self.store.verify_audit(head, lambda *_: None)

    def doctor(self, send_test: bool = False) -> Sequence[Finding]:
        """What is missing on this machine or in the settings."""
        found: Sequence[Finding] = named(LATE["examine"])(self.home.folder, send_test)
        return found

    # -- labels and classes -----------------------------------------------------------------------------------

    def trust(self) -> Sequence[Standing]:
        """Every labeller with the numbers."""
        found: Sequence[Standing] = named(LATE["trust"])(self.model, self.store, self.home.clock).standings()
        return found

    def set_apart(self, labeller: str) -> Decision:
        """From now on these labels neither measure nor train. Raises NotFound."""
        done: Decision = named(LATE["trust"])(self.model, self.store, self.home.clock).set_apart(labeller, actor())
        return done

    def clear(self, labeller: str) -> Decision:
        """They count again. Raises NotFound."""
        done: Decision = named(LATE["trust"])(self.model, self.store, self.home.clock).clear(labeller, actor())
        return done

    def classes(self) -> ClassMap:
        """Every change of the classes so far, and how names are read."""
        return self.store.classes(self.model)

    def change_classes(
        self, action: str, names: Sequence[str], into: str | None = None, since: str | None = None,
        parts: Sequence[str] = (),
    ) -> ClassChange:  # fmt: skip
        """accept, rename, merge, split (into `parts`) or retire. Raises InvalidInput for what makes no sense."""
        return noted(self, action, tuple(names), into, since, tuple(parts))[0]

    def undo_classes(self) -> ClassChange:
        """Take back the change that was noted last. Raises InvalidInput when the version that answers has learnt it."""
        return self.store.undo_classes(self.model, actor(), self.home.clock.now(), learnt_by(self))

    def class_accuracy(
        self, since: datetime | None = None, until: datetime | None = None, as_of: datetime | None = None
    ) -> Mapping[str, Any]:
        """How often answers of a span were right, in all and by class, and by which class map that was counted."""
        return counted(self, since, until, as_of)

    # -- keeping order ----------------------------------------------------------------------------------------

    def backup(self, target: Path, tell: Callable[..., None] = lambda *_: None) -> Mapping[str, Any]:
        """Write everything that the project knows into one file or folder, while everything runs.

        Raises Refused when the target exists, or a pruning or forgetting runs; BackendError when a disk or database
        fails.
        """
        place = named(LATE["backup_target"])(target, self.home)
        done: Mapping[str, Any] = named(LATE["backup"])(self.home, self.store).run(place, actor(), tell)
        return done

    @classmethod
    def restore(
        cls, source: Path, folder: Path, replace: bool = False, tell: Callable[..., None] = lambda *_: None
    ) -> Mapping[str, Any]:
        """Make the project of a folder from a backup; `replace`: in the place of what is there, which stays beside it.

        Raises InvalidInput for a backup that is damaged, Refused for one of a newer release or a folder that holds
        something, BackendError when a disk or database fails.
        """
        made = named(LATE["restore"])(source, folder, replace, os.environ, actor(), tell)
        done: Mapping[str, Any] = made.run()
        return done

    def prune(self, dry_run: bool = True) -> Pruned:
        """What is over the limits of the section retention, of every model; deleted unless `dry_run`."""
        found = named(LATE["prune"])(self.home, self.store, self.registry)
        done: Pruned = found.plan() if dry_run else found.run(actor())
        return done

    def forget(self, id: str | None = None, key: str | None = None, dry_run: bool = True) -> Forgotten:
        """Remove an example or a key from everything that is kept, of every model, and search for what is left."""
        person = Person(id, key)
        done: Forgotten = named(LATE["forget"])(self.home, self.store, self.registry).run(person, actor(), dry_run)
        return done

    def pin(self, number: int) -> None:
        """Keep a version's files, whatever the limits of retention. Raises NotFound."""
        now = self.home.clock.now()
        named(LATE["pin"])(self.store, self.registry, self.model, number, actor(), now)

    def unpin(self, number: int) -> None:
        """Let the limits of retention rule over a version again."""
        named(LATE["unpin"])(self.store, self.model, number, actor(), self.home.clock.now())

    def tokens(self) -> Sequence[Token]:
        """Every token that was ever made, without its secret."""
        return self.store.tokens()

    def change_token(self, name: str, **limits: int) -> None:
        """Change `per_minute` or `labels_per_day` of a token (0: no limit). Raises NotFound."""
        tokens.change(self.store, name, limits, actor())

    def revoke_token(self, name: str) -> None:
        """From now on the token is refused. Raises NotFound."""
        self.store.revoke_token(name, actor())
