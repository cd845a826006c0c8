"""Quarantine: what the version that answers finds abnormal is not learnt as normal, unless a person has cleared it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import ASSUMED, SnapshotRow
from keepfit.decision import Decision, Outcome
from keepfit.tasks.task import Model, predict

MOST = 0.2
"""Where more than this share is found abnormal, life has changed, and the version can tell little of single windows."""
AT_ONCE = 32
"""Contents that are answered together: neighbours are decoded as one stretch."""
SHOWN = 20

Progress = Callable[[float], None]


def quarantine(
    snapshot: Snapshot, champion: Model, number: int, parts: Collection[Split],
    progress: Progress = lambda share: None,
) -> tuple[Snapshot, Decision]:  # fmt: skip
    """The snapshot without the windows of these parts that version `number` finds abnormal, and the judgement.

    Only what nobody has labelled is judged: a label, also one that says normal, is a person's word. Of a key (a camera)
    of which more than a fifth would go nothing does, nor of one that the version does not know. Raises what the
    champion raises for contents that it cannot read.
    """
    assumed = {
        row.content: row.key for row in snapshot.stored() if _is_assumed(row, parts) and champion.knows(row.content)
    }
    odd = set(_abnormal(list(assumed), champion, progress))
    of_key, odd_of_key = Counter(assumed.values()), Counter(assumed[content] for content in odd)
    changed = {key for key, count in odd_of_key.items() if count > MOST * of_key[key]}
    gone = sorted(content for content in odd if assumed[content] not in changed)
    seen: dict[str, Any] = {"version": number, "judged": len(assumed), "found": len(odd), "snapshot": snapshot.id}
    because = [f"version {number} finds {len(odd)} of {len(assumed)} unlabelled windows abnormal"]
    if changed:
        named = ", ".join(sorted(key for key in changed if key is not None))
        because.append(
            f"more than a fifth{' of ' + named if named else ''}: life has changed, so its word says little of single "
            "windows, and all of them are learnt from"
        )
    if not gone:
        return snapshot, Decision(Outcome.PASS, tuple(because), seen)
    left_out = frozenset(gone)
    rows = (row for row in snapshot.stored() if not (_is_assumed(row, parts) and row.content in left_out))
    lineage = {"kind": "quarantine", "parents": [snapshot.id], "version": number, "quarantined": gone}
    kept = write_snapshot(snapshot.path.parent, rows, snapshot.columns, {**snapshot.lineage, **lineage})
    named = ", ".join(gone[:SHOWN]) + (" ..." if len(gone) > SHOWN else "")
    because.append(
        f"{len(gone)} are kept from the training ({named}); to clear them, label their video as normal in labels.csv "
        "and train again"
    )
    return kept, Decision(Outcome.HOLD, tuple(because), {**seen, "quarantined": gone, "kept": kept.id})


def _is_assumed(row: SnapshotRow, parts: Collection[Split]) -> bool:
    return row.split in parts and row.source == ASSUMED


def _abnormal(contents: list[str], champion: Model, progress: Progress) -> Iterator[str]:
    """Those whose answer is the last class, which is that of what is looked for."""
    rest, done = iter(contents), 0
    while some := list(islice(rest, AT_ONCE)):
        said = predict(champion, some).scores.argmax(axis=1)
        yield from (content for content, label in zip(some, said, strict=True) if label == len(champion.labels) - 1)
        done += len(some)
        progress(done / len(contents))
