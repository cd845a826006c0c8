"""What differs between two snapshots: rows by content, part and label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.data.snapshot import Snapshot
from keepfit.data.splits import content_group

Place = tuple[str, str]
"""(part, label)."""


@dataclass(frozen=True)
class DataDifference:
    """Two rows are the same when content (as texts are compared), part and label are."""

    kept: int
    added: Mapping[Place, int]
    removed: Mapping[Place, int]
    relabelled: int
    """Contents that both have, with other labels; their rows are among the added and the removed."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: part -> label -> rows."""
        return {
            "kept": self.kept, "relabelled": self.relabelled,
            "added": _by_part(self.added), "removed": _by_part(self.removed),
        }  # fmt: skip


def _by_part(counts: Mapping[Place, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (part, label), count in sorted(counts.items()):
        found.setdefault(part, {})[label] = count
    return found


def data_difference(old: Snapshot, new: Snapshot) -> DataDifference:
    """From the old one to the new one; holds a hash for each content."""
    before, after = _places(old), _places(new)
    added: Counter[Place] = Counter()
    removed: Counter[Place] = Counter()
    kept = relabelled = 0
    for content in before.keys() | after.keys():
        was, now = before.get(content, Counter()), after.get(content, Counter())
        added += now - was
        removed += was - now
        kept += (was & now).total()
        relabelled += bool(was) and bool(now) and {label for _, label in was} != {label for _, label in now}
    return DataDifference(kept, dict(added), dict(removed), relabelled)


def _places(snapshot: Snapshot) -> dict[str, Counter[Place]]:
    found: dict[str, Counter[Place]] = defaultdict(Counter)
    for row in snapshot.stored():
        found[content_group(row.content)][row.split.value, row.label] += 1
    return found
