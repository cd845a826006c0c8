"""Recognising several labels in one cell, without taking "Sci/Tech" or "U.S. NEWS" for two."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping

STRONG = ("|", ";", ",")
"""Signs that part a list; one combination of known labels is enough."""
WEAK = ("/", "+", "&", " and ", " ")
"""Signs that names contain too; it takes several combinations and many rows."""


def several_labels(classes: Mapping[str, int]) -> str | None:
    """An example of a cell with several labels, when many cells are such; None when each cell is one label.

    `classes` are the label column's values with their rows. A value is taken for several labels when it is a list,
    when all its parts also occur alone, or when its parts occur again and again in other company.
    """
    rows = sum(classes.values())
    lists = {value: n for value, n in classes.items() if len(_list_items(value)) > 1}
    if _share(lists, rows) >= 0.01:
        return _most_common(lists)
    for sign in (*STRONG, *WEAK):
        split = {value: _pieces(value, sign) for value in classes if sign in value.strip()}
        joined = {value: pieces for value, pieces in split.items() if len(pieces) > 1}
        found = _combinations(joined, classes, rows, sign in STRONG)
        if found:
            return _most_common(found)
    return None


def _combinations(
    joined: Mapping[str, frozenset[str]], classes: Mapping[str, int], rows: int, strong: bool
) -> dict[str, int]:
    alone = {value.strip() for value in classes if value not in joined}
    known = {value: classes[value] for value, pieces in joined.items() if pieces <= alone}
    if known and _share(known, rows) >= (0.01 if strong else 0.1) and len(known) >= (1 if strong else 3):
        return known
    pieces = Counter(piece for value in joined.values() for piece in value)
    if strong and len(joined) >= 5 and len(pieces) * 1.5 <= len(joined):
        every = {value: classes[value] for value in joined}
        return every if _share(every, rows) >= 0.05 else {}
    return {}


def _pieces(value: str, sign: str) -> frozenset[str]:
    return frozenset(piece.strip() for piece in value.split(sign) if piece.strip())


def _list_items(value: str) -> tuple[str, ...]:
    """The items of "['a', 'b']", '["a", "b"]', "{a,b}" or "[a, b]"; nothing for another value."""
    value = value.strip()
    if len(value) > 10_000 or value[:1] + value[-1:] not in {"[]", "{}", "()"}:
        return ()
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return tuple(_pieces(value[1:-1], ","))
    return tuple(map(str, found)) if isinstance(found, list | tuple | set) else ()


def _share(values: Mapping[str, int], rows: int) -> float:
    return sum(values.values()) / rows if rows else 0.0


def _most_common(values: Mapping[str, int]) -> str:
    best: Iterable[str] = sorted(values, key=lambda value: (-values[value], value))
    return next(iter(best))
