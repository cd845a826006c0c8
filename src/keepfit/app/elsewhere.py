"""A model that is served elsewhere, put together from the settings: its hand-over, and what is followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import requests

from keepfit.app.wiring import LATE, Home, intake, named, version_folder
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.pipelines.handing_over import Described, HandOver, Post
from keepfit.redaction import redacted
from keepfit.registry.files import manifest

if TYPE_CHECKING:
    from keepfit.pipelines.table_following import Follower


def hand_over(home: Home, name: str, store: RecordStore) -> HandOver:
    """Tells the other system of a model's deployments, as the settings say."""
    _, model = home.settings.model(name)
    settings = model.hand_over
    secret = None if settings.secret is None else settings.secret.get_secret_value()
    post = None if settings.url is None else webhook(settings.url, settings.timeout.total_seconds())
    return HandOver(
        name, store, lambda number: described(home, name, number), home.clock, post, secret, model.elsewhere.seen_within
    )


def webhook(url: str, timeout_s: float) -> Post:
    """Posts to one address, which only the settings can name; what answers is not read, and no redirect is followed."""

    def post(body: bytes, headers: Mapping[str, str]) -> int:
        try:
            with requests.post(
                url, data=body, headers=dict(headers), timeout=timeout_s, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code
        except requests.RequestException as error:
            raise BackendError(redacted(f"nobody answered ({type(error).__name__})")) from error

    return post


def described(home: Home, name: str, number: int) -> Described:
    """The version as MLflow and the file system know it."""
    folder = version_folder(home, name, number)
    uri = None if home.settings.tracking == "local" else f"models:/{name}/{number}"
    return Described(uri, str(folder.absolute()), manifest(folder))


def beat(home: Home, name: str, store: RecordStore) -> Callable[[], None]:
    """What the worker does for the model at each beat: read what is followed, then see what answers."""
    follower: Follower | None = None
    _, model = home.settings.model(name)
    if model.follow.on:
        follower = named(LATE["follower"])(home, name, store, intake(home, name, store))
    over = hand_over(home, name, store)

    def do() -> None:
        try:
            if follower is not None:
                follower.poll()
        finally:
            over.observe()

    return do
