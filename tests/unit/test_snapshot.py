"""A snapshot is immutable, addressed by its content, split by group, and grows with labels from life."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.data.records import Example, Label, LabelledExample, Source, text_group
from keepfit.data.snapshot import (
    UNKNOWN_TIME,
    Columns,
    Snapshot,
    SnapshotRow,
    Split,
    grow,
    import_file,
    open_snapshot,
    split_of,
    write_snapshot,
)
from keepfit.errors import BackendError, InvalidInput, NotFound

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


def row(text: str, label: str = "a", split: Split = Split.TRAIN, **more: object) -> SnapshotRow:
    return replace(SnapshotRow(f"id of {text}", text, label, text_group(text), split), **more)  # type: ignore[arg-type]


def write_table(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def labelled(text: str, value: str, at: datetime = NOW, id: str | None = None) -> LabelledExample:
    example = Example(text, NOW, id=id or f"example {text}")
    return LabelledExample(example, Label(example.id, value, at, Source.ASKED, id=f"{at} {value}"))


@pytest.fixture
def base(tmp_path: Path) -> Snapshot:
    rows = [row(f"old {i}", "ab"[i % 2], split_of(text_group(f"old {i}"))) for i in range(200)]
    return write_snapshot(tmp_path, rows, ("text",), {})


def everything(snapshot: Snapshot) -> dict[str, SnapshotRow]:
    return {found.id: found for found in snapshot.stored()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [
        row("eins", "a", time=NOW, key="k", context={"b": "2", "a": "ß"}, fresh=True, weight=2.0, source="asked"),
        row("zwei", "b", Split.TEST, contradicted=True),
    ]
    snapshot = write_snapshot(tmp_path, rows, ("text",), {"why": "test"})
    assert everything(open_snapshot(tmp_path, snapshot.id)) == {r.id: r for r in rows}
    assert open_snapshot(tmp_path, snapshot.id).lineage == snapshot.lineage
    assert snapshot.lineage["why"] == "test"
    assert snapshot.lineage["created_by"].startswith("keepfit ")
    assert snapshot.labels == ("a", "b")
    assert snapshot.contradicted_ids() == {"id of zwei"}
    assert snapshot.rows(Split.TEST).truth == ("b",)
    assert snapshot.rows(Split.VALIDATION).contents == ()
    assert len(snapshot.rows()) == 2
    assert snapshot.rows().times == (NOW, UNKNOWN_TIME)


def test_several_content_columns_come_as_tuples_even_under_taken_names(tmp_path: Path) -> None:
    rows = [row("x", content=("head", "body"))]
    snapshot = write_snapshot(tmp_path, rows, ("label", "text"), {})
    assert open_snapshot(tmp_path, snapshot.id).rows().contents == (("head", "body"),)
    assert pq.read_table(snapshot.path).column_names[-2:] == ["content_label", "text"]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=4))
def test_any_text_survives_except_for_lone_surrogates(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    rows = [replace(row(text, label=text or "a"), id=str(i)) for i, text in enumerate(texts)]
    snapshot = write_snapshot(tmp_path_factory.mktemp("any"), rows, ("text",), {})
    expected = tuple(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts)
    assert open_snapshot(snapshot.path.parent, snapshot.id).rows().contents == expected


def test_the_id_depends_on_the_content_and_on_nothing_else(tmp_path: Path) -> None:
    rows = [row(str(i), "ab"[i % 2]) for i in range(5000)]
    first = write_snapshot(tmp_path / "1", rows, ("text",), {"a": 1})
    second = write_snapshot(tmp_path / "2", iter(rows[::-1]), ("text",), {"b": 2})
    assert first.id == second.id
    assert first.rows().contents == second.rows().contents
    for change in ({"label": "b"}, {"weight": 2.0}, {"split": Split.TEST}, {"content": "no"}, {"time": NOW}):
        assert write_snapshot(tmp_path / "3", [replace(rows[0], **change), *rows[1:]], ("text",), {}).id != first.id
    assert write_snapshot(tmp_path / "4", rows, ("body",), {}).id != first.id


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    first = write_snapshot(tmp_path, [row("x")], ("text",), {"a": 1})
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    again = write_snapshot(tmp_path, [row("x")], ("text",), {"a": 2})
    assert again.lineage["a"] == first.lineage["a"] == 1
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_an_absent_snapshot_is_not_found(tmp_path: Path) -> None:
    for id in ("0" * 32, "../x", ""):
        with pytest.raises(NotFound):
            open_snapshot(tmp_path, id)


def test_damage_is_noticed_and_writing_again_repairs_it(tmp_path: Path) -> None:
    rows = [row(f"some text {i}") for i in range(300)]
    snapshot = write_snapshot(tmp_path, rows, ("text",), {})
    whole = snapshot.path.read_bytes()
    other = write_snapshot(tmp_path, rows[:-1], ("text",), {}).path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:200] + bytes(50) + whole[250:], other):
        snapshot.path.write_bytes(damaged)
        with pytest.raises(BackendError, match="backup"):
            open_snapshot(tmp_path, snapshot.id)
    assert write_snapshot(tmp_path, rows, ("text",), {}) == snapshot
    assert len(open_snapshot(tmp_path, snapshot.id).rows()) == 300
    snapshot.path.with_suffix(".json").unlink()
    with pytest.raises(BackendError):
        open_snapshot(tmp_path, snapshot.id)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The operating system refuses to write more into one file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_a_full_disk_gives_a_sentence_and_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    rows = [row(rng.bytes(60).hex()) for _ in range(5000)]
    with files_limited_to(size), pytest.raises(BackendError, match="free some space"):
        write_snapshot(tmp_path, rows, ("text",), {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_one_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="cannot be written"):
        write_snapshot(tmp_path / "file", [row("x")], ("text",), {})


def test_a_source_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs text for each of the columns"):
        write_snapshot(tmp_path, [row("x"), row("y", content=("a", "b"))], ("text",), {})
    assert list(tmp_path.iterdir()) == []


# Importing


def test_an_imported_file_is_split_by_the_hash_of_its_texts(tmp_path: Path) -> None:
    path = write_table(tmp_path / "data.csv", [(f"text {i}", "ab"[i % 2]) for i in range(400)])
    snapshot, report = import_file(tmp_path / "s", path)
    for found in snapshot.stored():
        assert found.split is split_of(found.group)
        assert found.group == Example(found.content, NOW).group_or_default()
    assert snapshot.lineage["parts"] == report.parts
    assert snapshot.lineage["source"] == "data.csv"
    assert not snapshot.rows().fresh.any()
    assert import_file(tmp_path / "s", path)[0] == snapshot


def test_what_cannot_be_learnt_from_is_left_out_and_counted(tmp_path: Path) -> None:
    good = [(f"text {i}", "ab"[i % 2]) for i in range(100)]
    odd = [
        ("Text 0", "a"),  # a repeat is kept
        ("twice", "a"),
        ("twice", "a"),
        ("TWICE", "b"),  # outvoted
        ("tie", "a"),
        ("tie", "b"),
        ("", "a"),
        ("no label", ""),
        ("alone", "c"),
        ("too", "many", "fields"),
    ]
    snapshot, _ = import_file(tmp_path, write_table(tmp_path / "data.csv", good + odd))
    assert len(snapshot.rows()) == 103
    assert snapshot.labels == ("a", "b")
    assert snapshot.lineage["dropped"] == {
        "unreadable": 1,
        "empty": 1,
        "unlabelled": 1,
        "contradictory": 3,
        "rare_class": 1,
        "leaks": 0,
    }
    assert len(set(snapshot.rows().ids)) == 103


def test_a_split_column_rules_and_a_missing_validation_part_is_taken_from_train(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], "TEST" if i < 100 else "train") for i in range(400)]
    leak = [("text 1", "b", "train")]
    path = write_table(tmp_path / "data.csv", rows + leak, ("text", "label", "split"))
    snapshot, report = import_file(tmp_path, path)
    assert snapshot.lineage["dropped"]["leaks"] == report.counts["leaks"] == 1
    test, validation = snapshot.rows(Split.TEST), snapshot.rows(Split.VALIDATION)
    assert sorted(test.contents) == sorted(text for text, _, _ in rows[:100])
    assert 10 < len(validation) < 60
    assert all(split_of(group, 0.1, 0.0) is Split.VALIDATION for group in validation.groups)


def test_ids_keys_times_and_context_come_along(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], f"r{i % 99}", "2020-05-06", f"user {i}", "de") for i in range(100)]
    path = write_table(tmp_path / "data.csv", rows, ("text", "label", "ref", "date", "user", "country"))
    snapshot, report = import_file(tmp_path, path, Columns(id="ref", key="user", context=("country",)))
    found = everything(snapshot)
    assert found["r5"].key == "user 5"
    assert found["r5"].context == {"country": "de"}
    assert found["r5"].time == datetime(2020, 5, 6, tzinfo=UTC)
    assert found["r0-2"].content == "text 99"
    assert any("1 row with the id of an earlier row" in warning for warning in report.warnings)


def test_problems_of_the_file_refuse_the_import(tmp_path: Path) -> None:
    path = write_table(tmp_path / "data.csv", [(f"text {i}", "same") for i in range(50)])
    with pytest.raises(InvalidInput, match=r"data\.csv cannot be learnt from: all rows have the same label"):
        import_file(tmp_path / "s", path)
    assert not (tmp_path / "s").exists()


# Growing


def test_labels_from_life_join_the_old_rows(base: Snapshot, tmp_path: Path) -> None:
    fresh = [labelled(f"new {i}", "c") for i in range(300)]
    grown = grow(tmp_path, base, fresh, holdout=0.4)
    rows = grown.rows()
    assert len(rows) == 500
    assert sum(rows.fresh) == 300
    assert grown.labels == ("a", "b", "c")
    assert grown.lineage["parents"] == [base.id]
    test = grown.rows(Split.TEST)
    assert 90 < sum(test.fresh) < 150
    assert all(split_of(group, 0.1, 0.4) is Split.TEST for group in np.array(test.groups)[test.fresh])
    assert grow(tmp_path, base, fresh[::-1]).id == grown.id


def test_a_row_never_moves_between_parts_when_its_text_is_labelled_again(base: Snapshot, tmp_path: Path) -> None:
    old = {found.content: found for found in base.stored()}
    fresh = [labelled(f"OLD  {i}", "ab"[i % 2] if i < 50 else "b") for i in range(100)]
    grown = everything(grow(tmp_path, base, fresh, holdout=0.9))
    assert len(grown) == 200
    for i, pair in enumerate(fresh):
        found = grown[pair.example.id]
        assert found.split is old[f"old {i}"].split
        assert found.label == pair.label.value
        assert found.fresh
        assert found.contradicted is (old[f"old {i}"].label != pair.label.value)
    snapshot = grow(tmp_path, base, fresh, holdout=0.9)
    assert snapshot.lineage["contradicted"] == len(snapshot.contradicted_ids()) == 25
    assert snapshot.lineage["replaced"] == 100


def test_growing_twice_keeps_every_part_and_forgets_old_contradictions(base: Snapshot, tmp_path: Path) -> None:
    once = grow(tmp_path, base, [labelled(f"new {i}", "a") for i in range(50)] + [labelled("old 1", "a")], 0.5)
    twice = grow(tmp_path, once, [labelled(f"new {i}", "b") for i in range(20)], 0.1)
    before, after = everything(once), everything(twice)
    assert before.keys() == after.keys()
    assert {id: found.split for id, found in before.items()} == {id: found.split for id, found in after.items()}
    assert len(once.contradicted_ids()) == 1
    assert len(twice.contradicted_ids()) == 20


def test_the_label_that_arrived_last_counts(base: Snapshot, tmp_path: Path) -> None:
    fresh = [
        labelled("same text", "a", NOW, "1"),
        labelled("Same text", "b", NOW + timedelta(hours=1), "2"),
        labelled("same  text", "b", NOW - timedelta(hours=1), "3"),
    ]
    grown = grow(tmp_path, base, fresh)
    assert {found.id: found.label for found in grown.stored() if found.fresh} == {"2": "b", "3": "b"}
    assert grown.lineage["superseded"] == 1


@pytest.mark.parametrize(("n", "share"), [(400, 0.5), (100, 0.5), (2000, 0.5), (400, 0.3)])
def test_recent_rows_get_their_share_of_the_weight(base: Snapshot, tmp_path: Path, n: int, share: float) -> None:
    grown = grow(tmp_path, base, [labelled(f"new {i}", "a") for i in range(n)], recent_share=share)
    train = grown.rows(Split.TRAIN)
    got = train.weights[train.fresh].sum() / train.weights.sum()
    assert train.weights.mean() == pytest.approx(1)
    assert got == pytest.approx(max(share, train.fresh.mean()), abs=1e-5)
    assert (grown.rows(Split.TEST).weights == 1).all()


def test_a_handful_of_recent_rows_counts_ten_times_at_most(base: Snapshot, tmp_path: Path) -> None:
    train = grow(tmp_path, base, [labelled(f"new {i}", "a") for i in range(8)]).rows(Split.TRAIN)
    assert train.weights[train.fresh].max() == pytest.approx(10 * train.weights[~train.fresh].max())


def test_growing_by_nothing_is_the_same_snapshot(base: Snapshot, tmp_path: Path) -> None:
    assert grow(tmp_path, base, []).id == base.id


def test_a_group_of_ones_own_stays_together(tmp_path: Path) -> None:
    base = write_snapshot(tmp_path, [row("x", group="film", split=Split.TEST), row("y", "b")], ("text",), {})
    pair = labelled("another text", "a")
    pair = replace(pair, example=replace(pair.example, group="film"))
    assert everything(grow(tmp_path, base, [pair], holdout=0.0))[pair.example.id].split is Split.TEST


def test_lone_surrogates_from_life_are_stored_as_replacement_characters(base: Snapshot, tmp_path: Path) -> None:
    grown = grow(tmp_path, base, [labelled("bad \ud800 text", "a", id="odd")])
    assert everything(grown)["odd"].content == "bad \ufffd text"


def test_the_lineage_is_readable_json(base: Snapshot) -> None:
    lineage = json.loads(base.path.with_suffix(".json").read_text("utf-8"))
    assert lineage["rows"] == 200
    assert lineage["classes"] == {"a": 100, "b": 100}
