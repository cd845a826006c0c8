"""Texts of several columns that come as objects, in one order, whatever order each of them is sent in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput

FIRST = "first text columns"
"""Under this name the store keeps the columns of the first object, for as long as nothing else says the order."""
MOST = 100
"""So many names are kept at most; others come behind them by name."""


@dataclass(frozen=True)
class TextColumns:
    """The order: that of the model's columns where they are known, else that of the first object which came."""

    known: Sequence[str] = ()
    first: Sequence[str] = ()
    fresh: bool = False
    """Whether that first object is among these, so that it is to be remembered."""

    def content(self, text: Any) -> Any:
        """A text, or the texts of an object; what is no object stays. Raises InvalidInput for other columns."""
        if not isinstance(text, Mapping):
            return text
        if self.known and set(text) != set(self.known):
            wrong = ", ".join(sorted({*text} ^ {*self.known}))
            raise InvalidInput(
                f"this model wants exactly {', '.join(self.known)} [columns.text]; look at {wrong:.200}", "text"
            )
        place = {name: number for number, name in enumerate(self.known or self.first)}
        names = sorted(text, key=lambda name: (place.get(name, len(place)), name))
        return tuple(text[name] for name in names) if len(names) > 1 else text[names[0]] if names else ()

    def to_keep(self) -> dict[str, Any]:
        """What is to be stored with the answers."""
        return {FIRST: list(self.first)} if self.fresh else {}


def text_columns(store: RecordStore, model: str, set_: Sequence[str], texts: Iterable[Any]) -> TextColumns:
    """The order for these texts; `set_`: the columns of the settings. Nothing is read where none is an object."""
    first = next((text for text in texts if isinstance(text, Mapping)), None)
    if first is None:
        return TextColumns()
    if known := set_ or (store.get(model, "columns") or {}).get("text", ()):
        return TextColumns(known)
    kept = store.get(model, FIRST)
    return TextColumns(first=kept or list(first)[:MOST], fresh=kept is None)
