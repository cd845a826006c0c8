"""Report the answers of your own server to keepfit: aside, in bulk, and never slowing an answer.

Copy this file into your service. It needs `requests` only. What keepfit cannot take now waits in a bounded queue; when
that is full the oldest reports are given up and counted, and the answers go on.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import requests

log = logging.getLogger(__name__)


class Reporter:
    """Sends what it is given from a thread of its own; a context manager."""

    def __init__(self, url: str, token: str | None = None, most: int = 10_000, bulk: int = 500) -> None:
        """`url`: such as http://127.0.0.1:8080/models/reviews/predictions; `most` reports may wait."""
        self._url, self._bulk, self._headers = url, bulk, {"Authorization": f"Bearer {token}"} if token else {}
        self._waiting: deque[dict[str, Any]] = deque(maxlen=most)
        self._there, self._stop = threading.Event(), threading.Event()
        self.lost = 0
        """Reports that were given up."""
        self._thread = threading.Thread(target=self._run, name="keepfit reports", daemon=True)
        self._thread.start()

    def report(self, text: str, probabilities: Mapping[str, float], version: str, **more: Any) -> str:
        """Take one answer (`more`: key, context, embedding); returns the id that a label may name later."""
        id_ = more.pop("id", None) or uuid.uuid4().hex
        if len(self._waiting) == self._waiting.maxlen:
            self.lost += 1
        self._waiting.append({
            "id": id_, "text": text, "probabilities": dict(probabilities), "version": version,
            "time": datetime.now(UTC).isoformat(), **more,
        })  # fmt: skip
        self._there.set()
        return id_

    def close(self, wait_s: float = 5.0) -> None:
        """Send what waits, for so long at most."""
        self._stop.set()
        self._there.set()
        self._thread.join(wait_s)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        pause = 0.2
        while not (self._stop.is_set() and not self._waiting):
            self._there.wait()
            self._there.clear()
            while self._waiting:
                bulk = [self._waiting.popleft() for _ in range(min(self._bulk, len(self._waiting)))]
                if self._send(bulk):
                    pause = 0.2
                    continue
                # the ids are kept, so what arrived although no answer came back is known and not stored twice
                self._waiting.extendleft(reversed(bulk))
                if self._stop.wait(pause):
                    self.lost += len(self._waiting)
                    return
                pause = min(2 * pause, 30.0)

    def _send(self, bulk: list[dict[str, Any]]) -> bool:
        try:
            answer = requests.post(self._url, json={"predictions": bulk}, headers=self._headers, timeout=10)
        except requests.RequestException as error:
            log.warning("keepfit is away: %s", type(error).__name__)
            return False
        if answer.status_code in (409, 413, 422):  # it will never take these
            log.error("keepfit refused %d answers: %s", len(bulk), answer.text[:500])
            self.lost += len(bulk)
            return True
        return answer.ok
