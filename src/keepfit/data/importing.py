"""From the rows of a file to the rows of a snapshot: what is kept, under which id, in which part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

from keepfit.data.allocation import Allocation
from keepfit.data.columns import Columns
from keepfit.data.files import RawRow
from keepfit.data.splits import PART_NAMES, UNKNOWN_TIME, SnapshotRow, content_group


def kept_rows(
    rows: Iterable[RawRow], allocation: Allocation, columns: Columns, dropped: dict[str, int]
) -> Iterator[SnapshotRow]:
    """The rows that are learnt from; those left out for the sake of other rows are counted in `dropped`.

    Ids are the file's own where it has them, else the text's group; a repeated id gets "-2", "-3" and so on.
    """
    dropped |= {"contradictory": 0, "rare_class": 0, "leaks": 0}
    taken: set[str] = set()
    for row in rows:
        if row.content is None or row.label is None:
            continue
        group = content_group(row.content)
        part = allocation.part_of(group)
        if row.label in allocation.left_out:
            dropped["rare_class"] += 1
        elif part is None or row.label != allocation.label_of(group):
            dropped["contradictory"] += 1
        elif columns.split is not None and PART_NAMES[row.split or ""] is not allocation.named_part(group):
            dropped["leaks"] += 1
        else:
            name = next(id for id in _names(row.id or group) if id not in taken)
            taken.add(name)
            yield SnapshotRow(
                id=name,
                content=row.content,
                label=row.label,
                group=group,
                split=part,
                time=row.time or UNKNOWN_TIME,
                key=row.key,
                context=row.context,
            )


def _names(id: str) -> Iterator[str]:
    yield id
    yield from (f"{id}-{number}" for number in count(2))
