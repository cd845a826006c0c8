"""A snapshot's rows together with labels from life: who stays, who gives way, what each weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from keepfit.data.parquet import storable
from keepfit.data.records import LabelledExample
from keepfit.data.splits import SnapshotRow, Split, content_group, parts_of, split_of

VALIDATION = 0.1
"""The share of new groups that goes to validation."""
MOST_WEIGHT = 10.0
"""A row from life counts at most so many times an old one: a few wrong labels must not rule."""


class Growth:
    """The old rows are read three times and never held; see `snapshot.grow` for the rules."""

    def __init__(
        self,
        old: Callable[[], Iterable[SnapshotRow]],
        fresh: Sequence[LabelledExample],
        holdout: float,
        recent_share: float,
    ) -> None:
        self._old = old
        self._fresh = _latest(fresh)
        self.superseded = len(fresh) - len(self._fresh)
        groups = {row.group for row in self._fresh}
        self._texts = {content_group(row.content) for row in self._fresh}
        self._ids = {row.id for row in self._fresh}
        splits: dict[str, Split] = {}
        labels: dict[str, set[str]] = {}
        old_train = self.replaced = 0
        for row in old():
            text = content_group(row.content)
            if row.group in groups:
                splits[row.group] = row.split
            if text in self._texts:
                splits.setdefault(text, row.split)
                labels.setdefault(text, set()).add(row.label)
            if self._gives_way(row, text):
                self.replaced += 1
            else:
                old_train += row.split is Split.TRAIN
        self._fresh = [_placed(row, splits, labels, holdout) for row in self._fresh]
        self.contradicted = sum(row.contradicted for row in self._fresh)
        self._set_weights(old_train, recent_share)

    def _gives_way(self, row: SnapshotRow, text: str) -> bool:
        return text in self._texts or row.id in self._ids

    def _set_weights(self, old: int, recent_share: float) -> None:
        """`ratio` of a new train row's weight to an old one's, and both so that their mean is one."""
        new = sum(row.split is Split.TRAIN for row in self._fresh)
        wanted = recent_share / (1 - recent_share) * old / new if new and recent_share < 1 else MOST_WEIGHT
        self.ratio = min(max(wanted, 1.0), MOST_WEIGHT) if new and old else 1.0
        self._weight = (old + new) / (old + self.ratio * new) if new or old else 1.0

    def rows(self) -> Iterator[SnapshotRow]:
        """The old rows that stay, then the new ones."""
        for row in self._old():
            if not self._gives_way(row, content_group(row.content)):
                weight = self._weight if row.split is Split.TRAIN else 1.0
                yield replace(row, weight=weight, contradicted=False)
        for row in self._fresh:
            yield replace(row, weight=self._weight * self.ratio if row.split is Split.TRAIN else 1.0)


def _latest(fresh: Sequence[LabelledExample]) -> list[SnapshotRow]:
    """One row per example, as the labels arrived, without those whose text was later labelled otherwise."""
    ordered = sorted(fresh, key=lambda pair: (pair.label.time, pair.label.id))
    rows = {pair.example.id: _row(pair) for pair in ordered}
    latest = {content_group(row.content): row.label for row in rows.values()}
    return [row for row in rows.values() if latest[content_group(row.content)] == row.label]


def _row(pair: LabelledExample) -> SnapshotRow:
    example, label = pair.example, pair.label
    content = tuple(map(storable, parts_of(example.content)))
    return SnapshotRow(
        id=example.id,
        content=content if isinstance(example.content, tuple) else content[0],
        label=label.value,
        group=example.group_or_default(),
        split=Split.TRAIN,
        time=example.time,
        fresh=True,
        source=label.source.value,
        key=example.key,
        context=example.context,
    )


def _placed(row: SnapshotRow, splits: dict[str, Split], labels: dict[str, set[str]], holdout: float) -> SnapshotRow:
    """In the part that its group, else its text, has in the old rows; else by the hash of its group."""
    text = content_group(row.content)
    split = splits.get(row.group) or splits.get(text) or split_of(row.group, VALIDATION, holdout)
    return replace(row, split=split, contradicted=bool(labels.get(text, set()) - {row.label}))
