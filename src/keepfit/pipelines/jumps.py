"""A clock that ran ahead and was put right: whoever remembers a moment goes on from now, and says so."""

from __future__ import annotations

from datetime import datetime, timedelta

from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome

BACK = timedelta(minutes=5)
"""A clock that is behind its own past by more than this has jumped back."""


def went_back(store: RecordStore, model: str, what: str, since: datetime, now: datetime) -> bool:
    """Whether `since`, up to where answers were looked at, lies in the future; if so it is on record."""
    if since <= now + BACK:
        return False
    words = (
        f"the clock jumped back by {since - now}: {what} from now on, and answers with times in the future count when"
        " their time comes; put the clock right (NTP)"
    )
    evidence = {"until": since.isoformat(), "now": now.isoformat()}
    store.add_decision(model, "clock", Decision(Outcome.WAIT, (words,), evidence), now)
    return True
