"""Who may call what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from keepfit.app.http import access
from keepfit.app.http.access import Access, check_host, is_loopback
from keepfit.clock import ManualClock
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token, hash_token
from keepfit.errors import Forbidden, SettingsError


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        yield opened


def request(token: str | None = None, host: str = "127.0.0.1:8080", **headers: str) -> Request:
    sent = {"Host": host, **headers} | ({"Authorization": f"Bearer {token}"} if token else {})
    return Request(EnvironBuilder(path="/predict", headers=sent).get_environ())


def add(store: RecordStore, clock: ManualClock, name: str, *roles: str, days: int | None = None) -> None:
    expires = None if days is None else clock.now() + timedelta(days=days)
    store.add_token(Token(name, hash_token(f"secret of {name}"), roles, clock.now(), expires))


def test_without_tokens_this_machine_may_do_everything(store: RecordStore, clock: ManualClock) -> None:
    assert Access(store, clock).check(request(), "admin").name == "anonymous"


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.5:8080", "localhost.evil.example"])
def test_without_tokens_a_foreign_name_for_this_machine_is_refused(
    store: RecordStore, clock: ManualClock, host: str
) -> None:
    with pytest.raises(Forbidden):
        Access(store, clock).check(request(host=host), "predict")


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080"])
def test_names_of_this_machine_are_welcome(store: RecordStore, clock: ManualClock, host: str) -> None:
    Access(store, clock).check(request(host=host), "predict")


def test_without_tokens_another_sites_page_may_not_call(store: RecordStore, clock: ManualClock) -> None:
    with pytest.raises(Forbidden):
        Access(store, clock).check(request(Origin="https://evil.example"), "admin")
    Access(store, clock).check(request(Origin="http://127.0.0.1:8080"), "admin")


def test_once_there_is_a_token_every_caller_needs_one(store: RecordStore, clock: ManualClock) -> None:
    add(store, clock, "app", "predict")
    guard = Access(store, clock)
    for bad in (request(), request("wrong"), request(Authorization="Basic abc"), request(Authorization="Bearer ")):
        with pytest.raises(Forbidden) as refused:
            guard.check(bad, "predict")
        assert not refused.value.known
    assert guard.check(request("secret of app"), "predict").name == "app"
    assert guard.check(request(), "open").name == "anonymous", "probes stay open"


def test_a_token_does_what_its_roles_say_and_admin_does_everything(store: RecordStore, clock: ManualClock) -> None:
    add(store, clock, "app", "predict")
    add(store, clock, "boss", "admin")
    guard = Access(store, clock)
    with pytest.raises(Forbidden) as refused:
        guard.check(request("secret of app"), "approve")
    assert refused.value.known
    assert guard.check(request("secret of app"), "any").name == "app"
    for role in ("predict", "label", "approve", "admin"):
        assert guard.check(request("secret of boss"), role).name == "boss"  # type: ignore[arg-type]


def test_a_revoked_or_expired_token_is_refused_and_access_does_not_open(
    store: RecordStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, clock, "old", "predict", days=1)
    add(store, clock, "gone", "predict")
    store.revoke_token("gone")
    clock.advance(timedelta(days=2))
    for token in ("secret of old", "secret of gone", None):
        with pytest.raises(Forbidden):
            Access(store, clock).check(request(token), "predict")


def test_when_tokens_are_required_none_means_nobody(store: RecordStore, clock: ManualClock) -> None:
    with pytest.raises(Forbidden):
        Access(store, clock, required=True).check(request(), "predict")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_other_addresses_than_loopback_need_a_token(store: RecordStore, clock: ManualClock, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="token"):
        check_host(host, ())
    add(store, clock, "app", "predict")
    check_host(host, store.tokens())


def test_only_hashes_are_stored(store: RecordStore, clock: ManualClock) -> None:
    add(store, clock, "app", "predict")
    assert "secret" not in repr(store.tokens())
    assert access.KEEP_S <= 5, "a revoked token must stop working soon"


def test_a_store_that_is_slow_holds_up_one_caller_and_not_all(
    store: RecordStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = threading.Event(), threading.Event()

    class Slow(RecordStore):
        def tokens(self) -> list[Token]:
            asked.set()
            assert go.wait(30)
            return store.tokens()

    add(store, clock, "app", "predict")
    guard = Access(store, clock)
    assert len(guard.tokens()) == 1
    guard._store = Slow(store._db)
    monkeypatch.setattr(access, "KEEP_S", 0.0)
    first = threading.Thread(target=guard.tokens)
    first.start()
    assert asked.wait(30)
    assert guard.check(request("secret of app"), "predict").name == "app"
    go.set()
    first.join()
