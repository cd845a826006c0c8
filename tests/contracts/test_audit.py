"""What the audit chain promises, on SQLite and on a real PostgreSQL: whatever is changed behind the store is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from keepfit.clock import ManualClock
from keepfit.data import audit
from keepfit.data.audit import Deed
from keepfit.data.chain import AuditEntry, Head
from keepfit.data.inspection import Inspection
from keepfit.data.records import Cause, Event, Job, Traffic
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused

START = datetime(2025, 3, 1, tzinfo=UTC)
M = "reviews"
NASTY = "null \x00 byte, lone \ud83d surrogate, \x01 escape, 'quotes\" \\ %s :x 漢字 😀\r\n"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.fixture
def store(url: str) -> Iterator[RecordStore]:
    with RecordStore.open(url, ManualClock(START)) as store:
        yield store


@pytest.fixture
def lived(store: RecordStore) -> RecordStore:
    """A store in which something of everything has happened; its chain has nine entries."""
    store.add_token(Token("ci", "hash", ("predict",), at(1), at(600)), "ann")
    store.add_event(Event("e-1", M, at(2), "release", "ci", {"mail": "ann@example.org"}))
    store.join_or_add_job(Job("j-1", M, "retrain", at(3), request={"actor": "ann", "reason": "asked"}))
    store.add_decision(M, "gate v1", Decision(Outcome.PASS, ("better",), {"n": 3}), at(4), id="d-1")
    store.deploy(M, Traffic({1: 1.0}), Cause("ann", "the first", decision_id="d-1", token="j-1"), at(5))
    store.deploy(M, Traffic({2: 1.0}), Cause("bob", "trial", "promote"), at(6))
    store.deploy(M, Traffic({1: 1.0}), Cause("ann", "back", "rollback"), at(7))
    store.revoke_token("ci", "bob", at(8))
    return store


def by_hand(store: RecordStore, *statements: str) -> Inspection:
    """What is found after someone changed the database with a tool of their own."""
    with store._db.write() as conn:
        for statement in statements:
            conn.execute(text(statement))
    return store.verify_audit()


def kinds(found: Inspection) -> list[tuple[str, str]]:
    return [(flaw.kind, flaw.subject) for flaw in found.flaws]


# what is written


def test_every_change_has_an_entry_that_says_who_did_what(lived: RecordStore) -> None:
    said = [(e.seq, e.model, e.actor, e.action, e.subject) for e in reversed(lived.audit_entries())]
    assert said == [
        (1, "", "keepfit", "begin", "audit"),
        (2, "", "ann", "token add", "token ci"),
        (3, M, "ci", "event", "event e-1"),
        (4, M, "ann", "retrain", "job j-1"),
        (5, M, "keepfit", "decision", "decision d-1"),
        (6, M, "ann", "deploy", "deployment 1"),
        (7, M, "bob", "promote", "deployment 2"),
        (8, M, "ann", "roll back", "deployment 3"),
        (9, "", "bob", "token revoke", "token ci"),
    ]
    assert [e.at for e in reversed(lived.audit_entries())] == [START, *(at(n) for n in range(1, 9))]
    assert lived.audit_head() == Head(9, lived.audit_entries(limit=1)[0].hash)


def test_a_deployment_is_told_whole_and_of_a_decision_its_outcome(lived: RecordStore) -> None:
    newest = {e.subject: e.details for e in reversed(lived.audit_entries())}
    row = newest["deployment 1"]["row"]
    assert (row["actor"], row["reason"], row["shares"], row["decision_id"]) == ("ann", "the first", [[1, 1.0]], "d-1")
    assert (newest["decision d-1"]["subject"], newest["decision d-1"]["outcome"]) == ("gate v1", "pass")
    assert "ann@example.org" not in str(newest), "of an event's details only the hash: they may have to be forgotten"


def test_an_entry_is_sealed_with_the_one_before(lived: RecordStore) -> None:
    chain = lived.audit_entries()[::-1]
    assert [e.previous for e in chain] == ["", *(e.hash for e in chain[:-1])]
    assert all(e.hash == e.seal() for e in chain)
    found = lived.verify_audit(chain[3].head)
    assert (found.whole, found.entries, found.head, found.flaws) == (True, 9, chain[-1].head, ())


def test_what_is_repeated_adds_no_entry(lived: RecordStore) -> None:
    head = lived.audit_head()
    lived.add_event(Event("e-1", M, at(20), "release"))
    lived.join_or_add_job(Job("j-2", M, "retrain", at(20)))
    lived.add_job(Job("j-1", M, "retrain", at(20)))
    lived.add_decision(M, "gate v1", Decision(Outcome.FAIL), at(20), id="d-1")
    lived.deploy(M, Traffic({1: 1.0}), Cause("ann", "again", token="j-1"), at(20))
    lived.revoke_token("ci", "eve", at(20))
    with pytest.raises(Refused):
        lived.add_token(Token("ci", "other", ("admin",), at(20)))
    with pytest.raises(NotFound):
        lived.revoke_token("nobody")
    assert lived.audit_head() == head
    assert lived.verify_audit().whole


def test_batches_and_servers_that_follow_are_no_changes(lived: RecordStore) -> None:
    head = lived.audit_head()
    lived.add_job(Job("b-1", M, "batch", at(20)))
    lived.applied(1, "server", at(20))
    lived.put(M, "accuracy", 0.9)
    assert lived.audit_head() == head


def test_other_rooms_add_entries_of_their_own(store: RecordStore) -> None:
    made = store.note(M, NASTY, "prune", NASTY, {"bytes": 12, NASTY: [NASTY, 0.1, None], "nan": float("nan")}, at(1))
    assert store.audit_entries(M) == [made]
    assert made.details == {"bytes": 12, NASTY: [NASTY, 0.1, None], "nan": None}
    assert store.verify_audit().whole


def test_entries_come_newest_first_by_model_and_in_pages(lived: RecordStore) -> None:
    assert [e.seq for e in lived.audit_entries(M, 2)] == [8, 7]
    assert [e.seq for e in lived.audit_entries(M, 2, before=7)] == [6, 5]
    assert [e.seq for e in lived.audit_entries("")] == [9, 2, 1]
    assert lived.audit_entries("tickets") == []


def test_a_call_that_fails_leaves_no_entry(lived: RecordStore) -> None:
    head = lived.audit_head()
    with pytest.raises(Exception, match="cannot be stored as JSON"):
        lived.add_decision(M, "gate", Decision(Outcome.PASS, (), {"x": object()}), at(20))
    assert lived.audit_head() == head


def test_the_audit_may_call_a_deployment_by_another_verb(store: RecordStore) -> None:
    store.deploy(M, Traffic({1: 1.0}), Cause("ann", "approved", action="approve"), at(1))
    assert store.audit_entries(M)[0].action == "approve"


# what is found


def test_an_edited_entry_is_found(lived: RecordStore) -> None:
    found = by_hand(lived, "UPDATE keepfit_audit SET actor = 'eve' WHERE seq = 6")
    assert kinds(found) == [("edited", "entry 6")]
    assert (found.whole, found.first_broken) == (False, 6)
    assert found.flaws[0].sentence == "entry 6 (deploy deployment 1 by eve) was edited"


@pytest.mark.parametrize("column", ["model", "at", "action", "subject", "details", "previous", "hash"])
def test_no_column_of_an_entry_can_be_edited_unseen(lived: RecordStore, column: str) -> None:
    value = "7" if column == "at" else "'no {json'"
    assert by_hand(lived, f"UPDATE keepfit_audit SET {column} = {value} WHERE seq = 4").first_broken == 4


def test_an_entry_that_was_edited_and_sealed_anew_is_found_at_the_next(lived: RecordStore) -> None:
    entry = lived.audit_entries()[9 - 4]
    assert entry.seq == 4
    forged = AuditEntry(4, M, entry.at, "eve", entry.action, entry.subject, entry.details, entry.previous).seal()
    found = by_hand(lived, f"UPDATE keepfit_audit SET actor = 'eve', hash = '{forged}' WHERE seq = 4")
    assert kinds(found) == [("relinked", "entry 5")]
    assert "entry 4: that was written anew, or entries between were removed" in found.flaws[0].sentence


def test_a_removed_entry_is_found(lived: RecordStore) -> None:
    found = by_hand(lived, "DELETE FROM keepfit_audit WHERE seq IN (3, 4)")
    assert kinds(found) == [("removed", "entry 3")]
    assert found.flaws[0].sentence == "entries 3 to 4 were removed"
    assert found.first_broken == 3


def test_a_removed_entry_is_found_where_the_others_moved_up(lived: RecordStore) -> None:
    found = by_hand(
        lived,
        "DELETE FROM keepfit_audit WHERE seq = 4",
        *(f"UPDATE keepfit_audit SET seq = {n - 1} WHERE seq = {n}" for n in range(5, 10)),
    )
    assert (found.first_broken, len(found.flaws)) == (4, 5)
    assert found.flaws[0].kind in {"edited", "moved"}


def test_reordered_entries_are_found_and_said_to_be_moved(lived: RecordStore) -> None:
    swap = [f"UPDATE keepfit_audit SET seq = {new} WHERE seq = {old}" for old, new in ((3, 99), (5, 3), (99, 5))]
    found = by_hand(lived, *swap)
    assert ("moved", "entry 3") in kinds(found)
    assert ("moved", "entry 5") in kinds(found)
    assert found.first_broken == 3
    assert found.flaws[0].sentence == "entry 3 stands in another's place: it was 5"


def test_the_beginning_cannot_be_removed_unseen(lived: RecordStore) -> None:
    assert by_hand(lived, "DELETE FROM keepfit_audit WHERE seq = 1").first_broken == 1


def test_an_emptied_chain_is_found_and_not_begun_anew(lived: RecordStore, url: str) -> None:
    by_hand(lived, "DELETE FROM keepfit_audit")
    with RecordStore.open(url) as again:
        found = again.verify_audit()
        assert ("cut", "audit") in kinds(found)
        assert {subject for kind, subject in kinds(found) if kind == "unchained"} == {
            "deployment 1", "deployment 2", "deployment 3", "decision d-1", "token ci",
        }  # fmt: skip
        again.note("", "ann", "look", "audit", {}, at(30))
        assert again.verify_audit().first_broken == 1


def test_a_cut_end_is_found_by_an_earlier_head_or_by_what_it_told_of(lived: RecordStore) -> None:
    head = lived.audit_head()
    assert head is not None
    by_hand(lived, "DELETE FROM keepfit_audit WHERE seq > 8")
    found = lived.verify_audit(head)
    assert ("cut", "entry 9") in kinds(found)
    assert ("changed", "token ci") in kinds(found), "it is revoked, and no entry says so"
    found = by_hand(lived, "DELETE FROM keepfit_audit WHERE seq > 7")
    assert ("unchained", "deployment 3") in kinds(found)


def test_a_cut_end_is_not_seen_from_inside_where_it_told_of_no_row(lived: RecordStore) -> None:
    """What the documents say: keep the head elsewhere."""
    lived.note(M, "ann", "prune", "predictions", {}, at(9))
    head = lived.audit_head()
    assert by_hand(lived, "DELETE FROM keepfit_audit WHERE seq > 9").whole
    assert [flaw.kind for flaw in lived.verify_audit(head).flaws] == ["cut"]


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE keepfit_deployments SET reason = 'no' WHERE id = 2", "deployment 2"),
        ("UPDATE keepfit_deployments SET shares = '[[7, 1.0]]' WHERE id = 1", "deployment 1"),
        ("UPDATE keepfit_deployments SET shares = 'x' WHERE id = 1", "deployment 1"),
        ("UPDATE keepfit_deployments SET decision_id = NULL WHERE id = 1", "deployment 1"),
        ("UPDATE keepfit_deployments SET at = at + 1 WHERE id = 1", "deployment 1"),
        ("UPDATE keepfit_decisions SET outcome = 'fail'", "decision d-1"),
        ("UPDATE keepfit_decisions SET because = '[]'", "decision d-1"),
        ("UPDATE keepfit_decisions SET evidence = '{\"n\": 4}'", "decision d-1"),
        ("UPDATE keepfit_tokens SET roles = '[\"admin\"]'", "token ci"),
        ("UPDATE keepfit_tokens SET revoked = FALSE", "token ci"),
        ("UPDATE keepfit_tokens SET expires = NULL", "token ci"),
        ("UPDATE keepfit_tokens SET hash = 'mine'", "token ci"),
        ("UPDATE keepfit_tokens SET per_minute = 9", "token ci"),
    ],
)
def test_a_row_that_is_not_as_the_chain_says_is_found(lived: RecordStore, statement: str, subject: str) -> None:
    found = by_hand(lived, statement)
    assert kinds(found) == [("changed", subject)]
    assert found.first_broken is None, "the chain itself is whole"


def test_it_is_said_what_of_a_deployment_was_changed(lived: RecordStore) -> None:
    found = by_hand(lived, "UPDATE keepfit_deployments SET reason = 'no', actor = 'eve' WHERE id = 2")
    assert found.flaws[0].sentence == "deployment 2 is not as entry 7 says: actor, reason was changed"


@pytest.mark.parametrize(
    ("table", "subject"),
    [("deployments WHERE id = 3", "deployment 3"), ("decisions", "decision d-1"), ("tokens", "token ci")],
)
def test_a_row_that_was_deleted_by_hand_is_found_once(lived: RecordStore, table: str, subject: str) -> None:
    assert kinds(by_hand(lived, f"DELETE FROM keepfit_{table}")) == [("gone", subject)]


def test_rows_that_were_put_there_by_hand_are_found(lived: RecordStore) -> None:
    found = by_hand(
        lived,
        "INSERT INTO keepfit_deployments (id, model, at, actor, reason, kind, shares, shadow) "
        "VALUES (77, 'reviews', 0, 'eve', '', 'deploy', '[[1, 1.0]]', '[]')",
        "INSERT INTO keepfit_tokens (name, hash, roles, created, revoked) VALUES ('eve', 'h', '[\"admin\"]', 0, FALSE)",
        "INSERT INTO keepfit_decisions (model, id, at, subject, outcome, because, evidence) "
        "VALUES ('reviews', 'mine', 0, 'gate v1', 'pass', '[]', '{}')",
    )
    assert kinds(found) == [
        ("unchained", "deployment 77"), ("unchained", "decision mine"), ("unchained", "token eve"),
    ]  # fmt: skip


def test_what_is_changed_or_taken_away_on_purpose_is_no_flaw_once_the_chain_is_told(lived: RecordStore) -> None:
    with lived._db.write() as conn:
        conn.execute(text("UPDATE keepfit_decisions SET because = '[\"forgotten\"]'"))
        audit.tell(conn, "decision", "d-1", Deed("ann", "forget", at(9)))
    assert lived.verify_audit().whole
    with lived._db.write() as conn:
        conn.execute(text("DELETE FROM keepfit_decisions"))
        audit.append(conn, M, Deed("ann", "prune", at(10)), "decision d-1", {"row_gone": True})
    assert lived.verify_audit().whole


def test_names_with_any_characters_are_compared_like_others(store: RecordStore) -> None:
    store.add_token(Token(NASTY, "hash", ("predict",), at(1)))
    store.add_decision(NASTY, NASTY, Decision(Outcome.WAIT, (NASTY,), {NASTY: NASTY}), at(2), id=NASTY)
    store.deploy(NASTY, Traffic({1: 1.0}), Cause(NASTY, NASTY), at(3))
    assert store.verify_audit().flaws == ()


def test_more_flaws_than_can_be_listed_are_counted(lived: RecordStore) -> None:
    with lived._db.write() as conn:
        for number in range(1100):
            audit.append(conn, "", Deed("ann", "look", at(number)), "audit", {})
    found = by_hand(lived, "UPDATE keepfit_audit SET actor = 'eve' WHERE seq > 9")
    assert (found.count, len(found.flaws)) == (1100, 1000)


def test_progress_is_told_to_the_end(lived: RecordStore) -> None:
    told: list[tuple[int, int | None]] = []
    lived.verify_audit(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (14, 14), "9 entries, 3 deployments, a decision, a token"


# many at once


def test_many_threads_leave_one_whole_chain(store: RecordStore) -> None:
    def work(thread: int) -> None:
        for turn in range(5):
            store.deploy(M, Traffic({1: 1.0}), Cause(f"ann {thread}", ""), at(turn))
            store.add_decision(M, "trigger", Decision(Outcome.WAIT), at(turn))
            store.note("", "ann", "look", "audit", {}, at(turn))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    found = store.verify_audit()
    assert (found.whole, found.entries) == (True, 91)


APPENDER = """
import sys
from datetime import UTC, datetime
from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome

now = datetime(2025, 1, 1, tzinfo=UTC)
with RecordStore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.read(1)
    for number in range(40):
        store.deploy("m", Traffic({number: 1.0}), Cause(sys.argv[2], ""), now)
        store.add_decision("m", "trigger", Decision(Outcome.WAIT), now)
"""


@pytest.mark.slow
def test_two_processes_that_append_at_once_leave_one_whole_chain(url: str, store: RecordStore) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, url, name], **pipes) for name in ("ann", "bob")]  # type: ignore[call-overload]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("!")
        writer.stdin.flush()
    assert [writer.communicate(timeout=60)[1] for writer in writers] == ["", ""]
    found = store.verify_audit()
    assert (found.flaws, found.entries) == ((), 161)


def test_a_verification_while_others_write_finds_nothing(store: RecordStore) -> None:
    def write(thread: int) -> None:
        for turn in range(15):
            store.add_token(Token(f"t-{thread}-{turn}", "h", ("predict",), at(0)))
            store.revoke_token(f"t-{thread}-{turn}")

    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write, number) for number in range(3)]
        while not all(one.done() for one in writing):
            assert store.verify_audit().flaws == ()
    assert store.verify_audit().entries == 91


@pytest.mark.parametrize("details", ["[1, 2]", "no JSON", '{"rows_gone": 7}', '"text"'])
def test_a_forged_entry_about_many_rows_is_named_and_stops_nothing(lived: RecordStore, details: str) -> None:
    lived.note("m", "keepfit", "thin out", "3 checks", {"rows_gone": []}, at(9))
    quoted = details.replace(":", "\\:")
    found = by_hand(lived, f"UPDATE keepfit_audit SET details = '{quoted}' WHERE action = 'thin out'")
    assert "edited" in {flaw.kind for flaw in found.flaws}
