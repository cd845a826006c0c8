"""History, audit, diff and lineage, as a person calls them, on the toy task."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keepfit.app.lineage import of_prediction
from keepfit.app.project import Project, actor
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Label, Prediction, Source
from keepfit.errors import BackendError
from keepfit.registry.registry import ModelVersion
from keepfit.tasks.task import predict

Command = Callable[..., tuple[int, str, str]]
"""See `keepfit` in conftest."""

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.gate.invariances]
case = 0.1  # the toy looks at the first word only, so a typo there may change its answer

[models.default.recipe]
epochs = {epochs}
"""
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Life:
    """A project with two versions, the second from data in which half of the labels turned; and answers of both."""

    folder: Path
    keepfit: Command

    def __call__(self, *words: object) -> Said:
        arguments = [*map(str, words), "--project", str(self.folder)]
        return Said(*self.keepfit(*arguments))

    def json(self, *words: object, code: int = 0) -> dict[str, Any]:
        said = self(*words, "--json")
        assert said.code == code, said
        found: dict[str, Any] = json.loads(said.out)
        return found

    @contextlib.contextmanager
    def project(self) -> Iterator[Project]:
        project = Project(self.folder)
        yield project
        project.close()

    def by_hand(self, statement: str) -> None:
        """What somebody does to the database with a tool of their own."""
        with contextlib.closing(sqlite3.connect(self.folder / ".keepfit" / "keepfit.db")) as conn, conn:
            conn.execute(statement)

    @property
    def snapshots(self) -> list[str]:
        with self.project() as project:
            return [version.lineage.snapshot_id for version in reversed(project.models())]


def train(folder: Path, clock: ManualClock, name: str, words: Sequence[tuple[str, str]], epochs: int) -> None:
    lines = [f"{word} thing number {i},{label}" for i in range(60) for word, label in words]
    (folder / name).write_text("\n".join(["text,label", *lines]) + "\n", "utf-8")
    (folder / "keepfit.toml").write_text(SETTINGS.format(epochs=epochs), "utf-8")
    project = Project(folder)
    project.home = replace(project.home, clock=clock)
    project.train(folder / name)
    project.close()


def answer(folder: Path, clock: ManualClock, version: int, n: int) -> None:
    """Users send n texts, one a second, and a version answers."""
    project = Project(folder)
    model = project.retraining(MODEL).task.load(project.registry.fetch(MODEL, version))
    clock.advance(timedelta(minutes=1))
    for i in range(n):
        example = Example(f"good day number {i}", clock.now(), id=f"e-{version}-{i}")
        said = predict(model, [example.content])
        id_ = f"p-{version}-{i}"
        made = Prediction(example.id, version, model.labels, said.scores[0], said.embeddings[0], clock.now(), id_)
        project.store.add_predictions(MODEL, [(example, made)])
        clock.advance(timedelta(seconds=1))
    project.close()


@pytest.fixture(scope="module")
def lived_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, clock = tmp_path_factory.mktemp("lived"), ManualClock(START)
    train(folder, clock, "one.csv", (("good", "pos"), ("bad", "neg")), epochs=3)
    answer(folder, clock, 1, 5)
    train(folder, clock, "two.csv", (("good", "neg"), ("bad", "neg"), ("fine", "pos")), epochs=7)
    answer(folder, clock, 2, 3)
    project = Project(folder)
    project.store.add_labels(MODEL, [Label("e-1-0", "neg", clock.now(), Source.ASKED, "ann", 0.5, "p-1-0")])
    project.close()
    return folder


@pytest.fixture
def life(lived_once: Path, tmp_path: Path, keepfit: Command) -> Life:
    shutil.copytree(lived_once, tmp_path / "project")
    return Life(tmp_path / "project", keepfit)


# history


def test_history_says_who_when_why_on_what_evidence_and_by_which_decision(life: Life) -> None:
    said = life("history").out
    row = life.json("history")["deployments"][0]
    assert "version 2 passed its gate" in said
    assert "evidence   not worse on" in said
    assert f"decision   {row['decision_id']}" in said
    assert "v2 100%" in said
    assert "evidence" not in row, "the documented shape is as it was"


# audit


def test_a_whole_chain_is_said_to_be_whole_and_its_head_is_still_there_later(life: Life) -> None:
    found = life.json("audit", "verify")
    assert {"labels", "predictions"} <= set(found["not_covered"])
    said = " ".join(life("audit", "verify").out.split())
    assert "covers deployments, decisions, tokens" in said
    assert "does not cover labels, predictions" in said
    assert (found["whole"], found["flaws"], found["first_broken"]) == (True, [], None)
    assert life("token", "add", "ann", "--role", "label").code == 0
    later = life("audit", "verify", "--head", found["head"])
    assert later.code == 0
    assert f"chain of {found['entries'] + 1} entries is whole" in later.out
    assert "Keep the head elsewhere" in later.out


def test_a_forged_history_is_found_and_the_exit_code_says_so(life: Life) -> None:
    head = life.json("audit", "verify")["head"]
    life.by_hand("UPDATE keepfit_deployments SET reason = 'all was well' WHERE id = 2")
    said = life("audit", "verify")
    assert said.code == 1
    assert "deployment 2 is not as entry" in said.out
    life.by_hand("DELETE FROM keepfit_audit WHERE seq = 3")
    found = life.json("audit", "verify", code=1)
    assert found["first_broken"] == 3
    assert {flaw["kind"] for flaw in found["flaws"]} >= {"removed", "changed"}
    assert "broken first at entry 3" in life("audit", "verify").out
    life.by_hand("DELETE FROM keepfit_audit WHERE seq > 5")
    assert "no longer in the chain" in life("audit", "verify", "--head", head).out


def test_the_list_names_the_person_who_acted(life: Life) -> None:
    ann = actor()
    assert life("promote", 1).code == 0
    assert life("token", "add", "bob", "--role", "label").code == 0
    assert life("token", "revoke", "bob").code == 0
    assert life("retrain", "--wait").code == 0
    entries = life.json("audit", "list", "--limit", 100)["entries"]
    by_ann = [(e["action"], e["subject"]) for e in reversed(entries) if e["actor"] == ann]
    by_ann = [deed for deed in by_ann if deed[0] != "deploy"][-4:]
    assert by_ann[:3] == [("promote", "deployment 3"), ("token add", "token bob"), ("token revoke", "token bob")]
    assert by_ann[3][0] == "retrain"
    said = life("audit", "list", "--limit", 100).out
    assert f"{ann}: promote deployment 3 (default)" in said
    assert f"reason {ann} promoted version 1" in said
    page = life.json("audit", "list", "--limit", 2, "--before", 4)["entries"]
    assert [e["seq"] for e in page] == [3, 2]
    assert {e["model"] for e in life.json("audit", "list", "--model", "default")["entries"]} == {"default"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("audit", "verify", "--head", "7"), "NUMBER:HASH"),
        (("audit", "verify", "--model", "default"), "leave --model out"),
        (("diff", 1, 1), "does not differ from itself"),
        (("diff", 1, 9), "no version 9"),
        (("lineage",), "either the id of an answer, or --snapshot"),
        (("lineage", "p-1-0", "--list"), "--list goes with --snapshot"),
        (("lineage", "p-1-0", "--after", "x"), "go with --list"),
        (("lineage", "nobody"), "No prediction 'nobody'"),
        (("lineage", "--snapshot", "nobody"), "no snapshot 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(life: Life, words: tuple[object, ...], part: str) -> None:
    said = life(*words)
    assert said.code == 2
    assert part in " ".join(said.err.split())


# diff


def test_diff_lays_two_versions_side_by_side(life: Life) -> None:
    found = life.json("diff", 1, 2)
    first, second = found["versions"]
    assert (first["version"], second["version"], second["parent"]) == (1, 2, 1)
    assert (first["gate"]["outcome"], second["gate"]["outcome"]) == ("pass", "pass")
    assert second["first_deployment"]["reason"].startswith("version 2 passed its gate")
    assert (found["data"]["kept"], found["data"]["relabelled"]) == (60, 60)
    assert sum(n for labels in found["data"]["added"].values() for n in labels.values()) == 120
    assert sum(n for labels in found["data"]["removed"].values() for n in labels.values()) == 60
    assert found["recipe"] == {"epochs": {"before": 3, "after": 7}}
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["before"]["value"] == accuracy["after"]["value"] == 1.0
    assert accuracy["overlap"] is True
    assert found["code"]["same"]


def test_diff_shows_the_answers_that_turned_in_the_direction_asked(life: Life) -> None:
    turned = life.json("diff", 1, 2)["flips"]
    assert turned["rows"] == "the test rows of both"
    assert turned["gained"] > 0
    assert turned["lost"] == 0
    assert all(flip["content"].startswith("good") for flip in turned["examples"]["gained"])
    assert {(flip["before"], flip["after"]) for flip in turned["examples"]["gained"]} == {("pos", "neg")}
    back = life.json("diff", 2, 1)["flips"]
    assert (back["gained"], back["lost"], back["n"]) == (0, turned["gained"], turned["n"])


def test_diff_prints_every_part_for_people(life: Life) -> None:
    said = life("diff", 1, 2).out
    for part in (
        "Version 1", "gate: pass", "first deployed", "rows kept", "added in train", "epochs: 3.0 -> 7.0", "accuracy",
        "overlap", "from wrong to right", "now right: pos -> neg", "Code:",
    ):  # fmt: skip
        assert part in said, part


def test_diff_judges_anew_where_the_older_data_is_gone_and_says_so(life: Life) -> None:
    for file in (life.folder / ".keepfit" / "snapshots").glob(f"{life.snapshots[0]}.*"):
        file.unlink()
    found = life.json("diff", 1, 2)
    assert "there is no snapshot" in found["data"]["unavailable"]
    assert found["flips"]["rows"] == "the test rows of the newer version"
    assert "may have learnt" in found["flips"]["caveat"]
    assert found["flips"]["gained"] > 0
    assert "cannot be compared" in life("diff", 1, 2).out


def test_diff_judges_anew_where_the_kept_answers_are_of_other_rows(life: Life) -> None:
    with life.project() as project:
        first = life.folder / ".keepfit" / "models" / "default" / "1"
        project.registry.fetch(MODEL, 1)
        shutil.copy(first.with_name("2") / "reference.npz", first)
        manifest = json.loads((first / "manifest.json").read_text("utf-8"))
        other = json.loads((first.with_name("2") / "manifest.json").read_text("utf-8"))
        (first / "manifest.json").write_text(json.dumps(manifest | {"reference.npz": other["reference.npz"]}), "utf-8")
    found = life.json("diff", 1, 2)["flips"]
    assert (found["by"], found["lost"]) == ("both judged anew", 0)
    assert "caveat" not in found, "what the older one has learnt from is known, and left out"


def test_diff_tells_what_it_can_where_the_files_are_gone(life: Life) -> None:
    for folder in ("snapshots", "models/default/1"):
        shutil.rmtree(life.folder / ".keepfit" / folder)
    found = life.json("diff", 1, 2)
    assert found["flips"].keys() == {"unavailable"}
    assert found["metrics"]["accuracy"]["overlap"] is True
    assert "cannot be told" in life("diff", 1, 2).out


def test_a_version_without_new_data_has_the_same(life: Life) -> None:
    life.by_hand("DELETE FROM keepfit_labels")
    assert life.json("retrain", "--wait")["version"] == 3
    assert life.json("diff", 2, 3)["data"]["same"]
    assert "the same snapshot" in life("diff", 2, 3).out


# lineage


def test_an_answer_leads_to_its_run_its_data_its_gate_and_its_later_label(life: Life) -> None:
    life.by_hand("UPDATE keepfit_predictions SET request = 'r-7' WHERE id = 'p-1-0'")
    found = life.json("lineage", "p-1-0")
    said, version = found["prediction"], found["version"]
    assert (said["label"], said["version"], said["request"]) == ("pos", 1, "r-7")
    assert version["snapshot"] == life.snapshots[0]
    assert (version["reason"], version["parent"]) == ("first", None)
    assert version["run"] == version["job"]
    assert (version["gate"]["outcome"], version["gate"]["id"]) == ("pass", f"{version['job']}-gate")
    assert (found["deployment"]["id"], found["deployment"]["decision_id"]) == (1, version["gate"]["id"])
    assert [(la["value"], la["actor"], la["source"]) for la in found["labels"]] == [("neg", "ann", "asked")]
    words = life("lineage", "p-1-0").out
    for part in ("request     r-7", f"snapshot    {life.snapshots[0]}", "gate        pass", "label       neg"):
        assert part in words, part
    assert "none yet" in life("lineage", "p-2-0").out
    assert life.json("lineage", "p-2-0")["version"]["parent"] == 1


def test_without_the_registry_the_job_tells_what_it_made(life: Life) -> None:
    def away(number: int) -> ModelVersion:
        raise BackendError("the registry is away")

    with life.project() as project:
        known = of_prediction(project.store, MODEL, "p-2-0", lambda n: project.registry.version(MODEL, n))["version"]
        for find in (None, away):
            found = of_prediction(project.store, MODEL, "p-2-0", find)["version"]
            assert found | {"run": known["run"], "code": known["code"]} == known
            assert (found["run"], found["code"]) == (None, None)


def test_a_snapshot_leads_to_its_versions_and_to_their_answers_in_pages(life: Life) -> None:
    first, second = life.snapshots
    found = life.json("lineage", "--snapshot", first[:10])
    (version,) = found["versions"]
    assert (found["snapshot"], found["stored"]) == (first, True)
    assert (version["version"], version["direct"], version["predictions"], version["shadow"]) == (1, True, 5, 0)
    assert datetime.fromisoformat(version["last"]) - datetime.fromisoformat(version["first"]) == timedelta(seconds=4)
    assert "version 1: 5 answers" in life("lineage", "--snapshot", first).out
    page = life.json("lineage", "--snapshot", first, "--list", "--limit", 3)
    assert page == {"predictions": ["p-1-0", "p-1-1", "p-1-2"], "after": "p-1-2"}
    rest = life("lineage", "--snapshot", first, "--list", "--limit", 3, "--after", page["after"])
    assert rest.out.split() == ["p-1-3", "p-1-4"]
    assert life.json("lineage", "--snapshot", second)["versions"][0]["predictions"] == 3


def test_a_snapshot_that_was_grown_into_another_leads_to_the_versions_of_that_too(life: Life) -> None:
    assert life.json("retrain", "--wait")["version"] == 3
    grown = life.snapshots[2]
    assert grown != life.snapshots[1], "a label came from life"
    found = life.json("lineage", "--snapshot", life.snapshots[1])
    assert [(v["version"], v["direct"]) for v in found["versions"]] == [(2, True), (3, False)]
    assert f"through snapshot {grown[:12]}" in life("lineage", "--snapshot", life.snapshots[1]).out
