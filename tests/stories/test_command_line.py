"""Every command as a person or a program calls it, in process, on the toy task."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfit.app.cli import cli
from keepfit.app.project import Project, actor
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Label, Prediction, QueueItem, Source, new_id
from keepfit.errors import SettingsError
from keepfit.tasks.task import predict

Command = Callable[..., tuple[int, str, str]]
"""See `keepfit` in conftest."""

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.watch]
label_rate = 1.0
label_budget = 100000

[models.default.gate.invariances]
case = 0.1  # the toy looks at the first word only, so a typo there may change its answer
"""
TWO_WORDS = (("good", "pos"), ("bad", "neg"))
LIVE = 40


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Shell:
    """Runs commands in a project folder."""

    folder: Path
    keepfit: Command

    def __call__(self, *words: object) -> Said:
        """The command with --project; what it printed, and its exit code."""
        arguments = [*map(str, words), "--project", str(self.folder)]
        return Said(*self.keepfit(*arguments))

    def json(self, *words: object, code: int = 0) -> dict[str, Any]:
        """What a command prints for programs."""
        said = self(*words, "--json")
        assert said.code == code, said
        return said.json

    def write(self, name: str, *lines: str) -> Path:
        """A file in the project folder."""
        file = self.folder / name
        file.write_text("\n".join(lines) + "\n", "utf-8")
        return file

    @contextlib.contextmanager
    def project(self) -> Iterator[Project]:
        """The project as Python sees it."""
        project = Project(self.folder)
        yield project
        project.close()


def write_rows(file: Path, words: Sequence[tuple[str, str]], n: int = 60) -> Path:
    """n labelled texts for each (first word, label)."""
    with file.open("w", newline="", encoding="utf-8") as target:
        rows = csv.writer(target)
        rows.writerow(("text", "label"))
        rows.writerows((f"{word} thing number {i}", label) for i in range(n) for word, label in words)
    return file


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose version 1 was trained, deployed and served an hour ago; copying it is fast."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    project = Project(folder)
    project.home = replace(project.home, clock=ManualClock(datetime.now(UTC) - timedelta(hours=1)))
    project.train(write_rows(folder / "data.csv", TWO_WORDS))
    serve(project)
    project.close()
    return folder


def serve(project: Project) -> None:
    """A server reports that it serves what is deployed."""
    live = project.store.deployment(MODEL)
    assert live is not None
    project.store.applied(live.id, "a server", project.home.clock.now())


@pytest.fixture
def shell(trained_once: Path, tmp_path: Path, keepfit: Command) -> Shell:
    """The trained project, a copy of one's own."""
    shutil.copytree(trained_once, tmp_path / "project")
    return Shell(tmp_path / "project", keepfit)


@pytest.fixture
def fresh(tmp_path: Path, keepfit: Command) -> Shell:
    """A project in which nothing was trained."""
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    return Shell(tmp_path, keepfit)


def live(shell: Shell, word: str, n: int = LIVE) -> list[Prediction]:
    """Users sent n texts a while ago; what they were answered."""
    with shell.project() as project:
        model = project.retraining(MODEL).task.load(project.registry.fetch(MODEL, 1))
        at = project.home.clock.now() - timedelta(minutes=5)
        examples = [Example(f"{word} day number {i}", at, id=f"{word}-{i}") for i in range(n)]
        output = predict(model, [e.content for e in examples])
        answers = [
            Prediction(e.id, 1, model.labels, scores, embedding, at, measures={"length": 4.0, "unknown": 0.0})
            for e, scores, embedding in zip(examples, output.scores, output.embeddings, strict=True)
        ]
        project.store.add_predictions(MODEL, list(zip(examples, answers, strict=True)))
    return answers


def ask(shell: Shell, answers: Sequence[Prediction]) -> None:
    """The labels of these answers are asked for."""
    with shell.project() as project:
        now = project.home.clock.now()
        project.store.ask([
            QueueItem(new_id(), MODEL, a.id, project.store.prediction(MODEL, a.id)[0], 1.0, "drawn at random", now)
            for a in answers
        ])  # fmt: skip


def tell(shell: Shell, answers: Sequence[Prediction], value: str) -> None:
    """The same label for all of these answers, which were asked for."""
    with shell.project() as project:
        now = project.home.clock.now()
        given = [Label(a.example_id, value, now, Source.ASKED, "ann", 1.0, a.id) for a in answers]
        project.store.add_labels(MODEL, given)


def traffic(shell: Shell) -> dict[str, float]:
    shares: dict[str, float] = shell.json("status")["models"][0]["traffic"]
    return shares


# from nothing to a champion


def test_init_writes_settings_that_work_and_never_writes_over_them(tmp_path: Path, keepfit: Command) -> None:
    shell = Shell(tmp_path / "new", keepfit)
    assert shell("init", "--json").json == {"settings": str(tmp_path / "new" / "keepfit.toml")}
    status = shell.json("status")["models"][0]
    assert (status["name"], status["task"], status["champion"]) == ("default", "text", None)
    again = shell("init")
    assert again.code == 2
    assert "exists already" in again.err


def test_the_first_version_that_passes_its_floors_becomes_champion(fresh: Shell) -> None:
    said = fresh("train", write_rows(fresh.folder / "reviews.csv", TWO_WORDS))
    assert said.code == 0
    assert "Version 1" in said.out
    assert "is deployed" in said.out
    assert "120 rows, 2 classes" in said.err
    assert traffic(fresh) == {"1": 1.0}


def test_a_first_version_below_its_floors_is_kept_but_never_deployed(fresh: Shell) -> None:
    with (fresh.folder / "keepfit.toml").open("a", encoding="utf-8") as settings:
        settings.write("[models.default.gate.floors]\naccuracy = 0.95\n")
    rows = [f"good thing number {i},{'pos' if i % 3 else 'neg'}" for i in range(120)]
    result = fresh.json("train", fresh.write("noise.csv", "text,label", *rows))
    assert result["deployed"] is False
    assert traffic(fresh) == {}
    assert [v["verdict"] for v in fresh.json("models")["versions"]] == ["fail"]


# looking


def test_status_says_what_is_live_and_how_accurate_it_is(shell: Shell) -> None:
    tell(shell, live(shell, "good"), "pos")
    assert shell("check").code == 0
    (status,) = shell.json("status")["models"]
    assert status.keys() >= {"name", "task", "champion", "traffic", "accuracy", "last_check", "retraining"}
    assert status["champion"] == 1
    assert status["accuracy"]["value"] == 1.0
    assert status["accuracy"]["n"] == LIVE
    assert status["last_check"]["outcome"] == "wait"
    words = shell("status")
    assert "version 1" in words.out
    assert f"{LIVE} labels" in words.out


def test_status_tells_the_first_reasons_of_the_last_check_in_lines_and_where_all_are(shell: Shell) -> None:
    tell(shell, live(shell, "good"), "pos")
    assert shell("check").code == 0
    (status,) = shell.json("status")["models"]
    first, second, *rest = status["last_check"]["because"]
    assert len(rest) > 1
    lines = [" ".join(line.split()) for line in shell("status").out.splitlines()]
    begin = next(place for place, line in enumerate(lines) if line.startswith("last check wait, "))
    end = next(place for place, line in enumerate(lines) if line.startswith("retraining"))
    said = " ".join(lines[begin + 1 : end])  # a terminal may fold them
    number = len(rest) + 2
    id_ = status["last_check"]["id"][:12]
    assert said == f"- {first} - {second} all {number} reasons: keepfit decisions {id_}"
    assert rest[-1] in shell("decisions", id_).out


def test_status_draws_accuracy_over_time(shell: Shell, tmp_path: Path) -> None:
    tell(shell, live(shell, "good"), "pos")
    assert shell("check").code == 0
    picture = tmp_path / "accuracy.png"
    assert str(picture) in shell("status", "--plot", str(picture)).err.replace("\n", "")
    assert picture.stat().st_size > 1000
    refused = shell("status", "--plot", str(tmp_path / "accuracy.doc"))
    assert refused.code == 2
    again = tmp_path / "again.png"
    assert shell("status", "--plot", str(again), "--as-of", "2020-01-01").code == 0
    assert again.stat().st_size > 1000
    refused = shell("status", "--as-of", "2020-01-01")
    assert refused.code == 2
    assert "--as-of is for --plot" in refused.err


def test_history_decisions_and_models_have_the_documented_shapes(shell: Shell) -> None:
    (row,) = shell.json("history")["deployments"]
    assert row.keys() >= {"id", "at", "actor", "reason", "traffic", "shadow", "decision_id", "applied"}
    assert row["traffic"] == {"1": 1.0}
    assert [worker["worker"] for worker in row["applied"]] == ["a server"]
    judged = shell.json("decisions")["decisions"]
    assert all(d.keys() >= {"id", "at", "subject", "outcome", "because", "evidence"} for d in judged)
    verdict = next(d for d in judged if d["subject"] == "gate v1")
    assert verdict["id"] == row["decision_id"]
    assert verdict["because"]
    known = shell.json("models")
    assert known["aliases"]["champion"] == 1
    assert known["versions"][0]["metrics"]["accuracy"]["value"] == 1.0
    for command in ("history", "decisions", "models"):
        assert "v1" in shell(command).out or "champion" in shell(command).out


def test_live_says_what_answered_at_a_moment(shell: Shell) -> None:
    moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert shell.json("live", "--at", moment)["deployments"][0]["traffic"] == {"1": 1.0}
    assert shell.json("live")["deployments"][0]["traffic"] == {"1": 1.0}, "now, where no moment is given"
    before = shell("live", "--at", "2020-01-01")
    assert before.code == 2
    assert "nothing was live" in before.err
    assert "is no time" in shell("live", "--at", "yesterdayish").err


def test_doctor_finds_nothing_missing_in_a_trained_project(shell: Shell) -> None:
    found = shell("doctor", "--json")
    wrong = [f for f in found.json["findings"] if not f["ok"] and f["what"] not in {"memory", "disk"}]
    assert not wrong


def test_a_version_trained_again_gives_the_same_numbers(shell: Shell) -> None:
    result = shell.json("models", "--reproduce", 1)
    assert result["same"]
    assert result["was"] == result["now"]


# answering files


def test_batch_writes_each_row_with_its_answer(shell: Shell) -> None:
    source = shell.write("in.csv", "text,note", "good morning,a", ",b", "bad evening,c")
    target = shell.folder / "out.csv"
    assert shell.json("batch", source, target) == {"output": str(target), "rows": 3, "errors": 1}
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "note", "label", "score", "p_neg", "p_pos", "model_version", "error"]
    assert [row["label"] for row in rows] == ["pos", "", "neg"]
    assert rows[1]["error"]


def test_evaluate_gives_the_champions_numbers_on_a_file(shell: Shell) -> None:
    file = write_rows(shell.folder / "later.csv", (("good", "pos"), ("bad", "neg"), ("Good!", "pos")), 20)
    result = shell.json("evaluate", file)
    assert result["version"] == 1
    assert result["metrics"]["accuracy"].keys() >= {"value", "low", "high"}
    assert "accuracy" in shell("evaluate", file).out


def test_evaluate_reads_old_and_new_names_of_a_class_alike(shell: Shell) -> None:
    old = write_rows(shell.folder / "old.csv", TWO_WORDS, 20)
    before = shell.json("evaluate", old)["metrics"]["accuracy"]
    shell("classes", "rename", "pos", "happy")
    new = write_rows(shell.folder / "new.csv", (("good", "happy"), ("bad", "neg")), 20)
    for file in (old, new):
        found = shell.json("evaluate", file)
        assert found["metrics"]["accuracy"] == before
        assert "happy" in found["labels"]
        assert "pos" not in found["labels"]


def test_gate_passes_or_fails_by_exit_code(shell: Shell) -> None:
    assert shell.json("retrain", "--wait")["version"] == 2
    seen = write_rows(shell.folder / "seen.csv", TWO_WORDS, 80)
    assert shell("gate", seen).code == 0
    turned = write_rows(shell.folder / "turned.csv", (("good", "neg"), ("bad", "pos")), 80)
    assert shell("gate", turned).code == 1
    outcomes = [d["outcome"] for d in shell.json("decisions")["decisions"] if d["subject"] == "gate v2"]
    assert outcomes[:2] == ["fail", "pass"]
    assert shell("gate", seen, "--candidate", 7).code == 2


# labels


@pytest.mark.parametrize("way", ["prediction_id", "id", "text"])
def test_labels_that_came_later_are_matched_however_they_are_named(shell: Shell, way: str) -> None:
    answers = live(shell, "good", 3)
    names = {
        "prediction_id": [a.id for a in answers],
        "id": [a.example_id for a in answers],
        "text": [f"GOOD  day number {i}" for i in range(3)],
    }[way]
    file = shell.write("labels.csv", f"{way},label", *(f"{name},pos" for name in names))
    assert shell.json("label", file) == {"new": 3, "read": 3, "unknown": 0}
    assert shell.json("label", file)["new"] == 0


def test_a_label_that_matches_nothing_is_counted(shell: Shell) -> None:
    live(shell, "good", 1)
    file = shell.write("labels.csv", "text,label", "good day number 0,pos", "never seen,pos")
    assert shell.json("label", file) == {"new": 1, "read": 1, "unknown": 1}


def test_a_class_that_the_model_does_not_know_is_refused(shell: Shell) -> None:
    live(shell, "good", 2)
    file = shell.write("labels.csv", "id,label", "good-0,pos", "good-1,posh")
    assert_one_sentence(shell("label", file), "'posh'", "'neg', 'pos'")
    with shell.project() as project:
        assert project.store.training_data(MODEL) == []


def test_a_new_class_is_declared_proposed_and_accepted(shell: Shell) -> None:
    live(shell, "good", 3)
    file = shell.write("labels.csv", "id,label", "good-0,posh", "good-1,posh", "good-2,posh")
    assert shell.json("label", file, "--new-classes")["new"] == 3
    assert shell.json("classes", "list")["proposed"][0]["class"] == "posh"
    assert "keepfit classes accept posh" in " ".join(shell("classes", "list").out.split())
    assert shell.json("classes", "accept", "posh")["change"]["names"] == ["posh"]
    listed = shell.json("classes", "list")
    assert (listed["classes"], listed["proposed"]) == (["neg", "pos", "posh"], [])
    assert shell.json("classes", "rename", "posh", "grand")["change"]["into"] == "grand"
    assert shell.json("classes", "merge", "grand", "pos", "--into", "pos")["change"]["names"] == ["grand"]
    assert shell.json("classes", "list")["classes"] == ["neg", "pos"]
    assert_one_sentence(shell("classes", "retire", "pos"), "two classes must remain")


def test_what_is_to_be_labelled_is_listed_until_it_is(shell: Shell) -> None:
    answers = live(shell, "good", 3)
    assert "Nothing waits" in shell("labels", "next").out
    ask(shell, answers)
    items = shell.json("labels", "next")["items"]
    assert {item["prediction_id"] for item in items} == {a.id for a in answers}
    assert items[0].keys() >= {"prediction_id", "id", "text", "reason", "propensity", "labels"}
    assert len(shell.json("labels", "next", "--limit", 2)["items"]) == 2
    shell("label", shell.write("labels.csv", "prediction_id,label", f"{answers[0].id},pos"))
    assert len(shell.json("labels", "next")["items"]) == 2
    said = shell("labels", "next")
    assert "good day" in said.out
    assert all(answer.id in said.out for answer in answers[1:])  # whole, so that they can be copied
    assert "keepfit label FILE" in said.err


# watching, retraining, going back


def test_check_says_by_its_exit_code_whether_retraining_is_wanted(shell: Shell) -> None:
    assert shell("check").code == 0
    tell(shell, live(shell, "bad", 80), "pos")
    fired = shell("check", "--json")
    assert fired.code == 10
    assert fired.json["outcome"] == "fire"
    assert "0.8" in " ".join(fired.json["because"])
    assert shell.json("status")["models"][0]["retraining"]["state"] == "waiting"


def test_check_warns_where_silence_settles_too_late_for_a_rollout_unless_somebody_answers_the_queue(
    shell: Shell,
) -> None:
    complete = SETTINGS.replace('task = "toy"', 'task = "toy"\nlabels = "complete"\nsettle_after = "7d"')
    shell.write("keepfit.toml", complete, '[models.default.rollout]\nstrategy = "canary"')
    said = shell("check")
    assert said.code == 0
    assert "! a rollout (canary) would end undecided: an answer counts 7 days" in said.out
    assert "set rollout.longest to 14 days" in said.out
    assert len(shell.json("check")["warnings"]) == 1
    shell.write("keepfit.toml", complete, '[models.default.rollout]\nstrategy = "canary"\nlongest = "14d"')
    assert "warnings" not in shell.json("check")
    shell.write("keepfit.toml", complete, '[models.default.rollout]\nstrategy = "shadow"')
    assert "(shadow) would end undecided" in shell.json("check")["warnings"][0]
    tell(shell, live(shell, "good", 5), "pos")  # asked labels, which count at once
    assert "warnings" not in shell.json("check")


def test_the_loop_of_a_new_user(shell: Shell) -> None:
    """Harm is seen, the retraining it calls for is proven better and deployed, and taken back on request."""
    tell(shell, live(shell, "awful", 120), "neg")
    tell(shell, live(shell, "grand", 120), "pos")
    assert shell("check").code == 10
    result = shell.json("retrain", "--wait")
    assert (result["version"], result["deployed"]) == (2, True), result
    assert traffic(shell) == {"2": 1.0}
    assert "version 1" in shell("rollback").out
    assert traffic(shell) == {"1": 1.0}
    assert [row["kind"] for row in shell.json("history")["deployments"]] == ["rollback", "deploy", "deploy"]
    assert shell.json("models")["aliases"]["champion"] == 1
    mail = sorted(file.read_text("utf-8") for file in (shell.folder / ".keepfit" / "mailbox").glob("*.eml"))
    assert any("version 2 is in use" in letter for letter in mail)


def test_new_data_that_cannot_be_read_is_named_and_taking_it_away_helps(shell: Shell) -> None:
    file = shell.write("inbox.csv", "this is a note, and no table")
    with shell.project() as project:
        project.store.put(MODEL, "data_files", [str(file)])
    assert_one_sentence(shell("retrain", "--wait"), "inbox.csv")
    file.unlink()
    assert shell.json("retrain", "--wait")["version"] == 2


def test_rollback_goes_back_only_to_what_served(shell: Shell) -> None:
    alone = shell("rollback")
    assert alone.code == 2
    assert "no way back" in alone.err
    shell("retrain", "--wait")
    never = shell("rollback", "--to", 2)
    assert never.code == 2
    with shell.project() as project:
        serve(project)
    assert shell("rollback", "--to", 1, "--json").json["traffic"] == {"1": 1.0}


def test_a_retraining_that_builds_on_the_champion_says_so_in_its_lineage_and_can_be_made_again(shell: Shell) -> None:
    result = shell.json("retrain", "--wait", "--start", "warm")
    assert result["version"] == 2
    with shell.project() as project:
        lineage = project.registry.version(MODEL, 2).lineage
    assert (lineage.recipe.start, lineage.parent) == ("warm", 1)
    assert shell.json("models", "--reproduce", 2)["same"]


def test_a_start_that_cannot_be_is_refused_before_anything_is_done(shell: Shell) -> None:
    for words in (("retrain",), ("train", shell.folder / "nothing.csv")):
        assert_one_sentence(shell(*words, "--start", "recalibrate"), "it has new, warm")
    assert len(shell.json("models")["versions"]) == 1
    assert shell.json("status")["models"][0]["retraining"] is None


def test_promote_serves_a_version_on_a_persons_word(shell: Shell) -> None:
    shell("retrain", "--wait")
    assert shell.json("promote", 1) == {"version": 1}
    assert traffic(shell) == {"1": 1.0}
    unknown = shell("promote", 99)
    assert unknown.code == 2
    assert "99" in unknown.err


def test_where_approval_is_wanted_a_passed_version_waits_for_it(shell: Shell) -> None:
    settings = shell.folder / "keepfit.toml"
    settings.write_text(SETTINGS.replace('task = "toy"', 'task = "toy"\napproval = true'), "utf-8")
    assert shell.json("retrain", "--wait")["deployed"] is False
    assert shell.json("status")["models"][0]["awaiting_approval"]["version"] == 2
    assert traffic(shell) == {"1": 1.0}
    assert shell("approve", 1).code == 2
    assert shell("approve", 2).code == 0
    assert traffic(shell) == {"2": 1.0}
    assert shell("approve", 2).code == 2


# tokens


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(shell: Shell) -> None:
    made = shell.json("token", "add", "ann", "--role", "predict", "--role", "label", "--expires", "90d")
    assert len(made["token"]) > 30
    listed = shell("token", "list", "--json")
    (token,) = listed.json["tokens"]
    assert (token["name"], token["roles"]) == ("ann", ["predict", "label"])
    assert made["token"] not in listed.out
    assert "ann" in shell("token", "list").out
    assert shell("token", "revoke", "ann").code == 0
    assert shell.json("token", "list")["tokens"][0]["revoked"]
    wrongs: tuple[tuple[str, ...], ...] = (
        ("add", " ", "--role", "label"), ("add", "ann", "--role", "label"), ("add", "bob", "--role", "king"),
        ("add", "bob", "--role", "label", "--expires", "soon"), ("revoke", "nobody"),
    )  # fmt: skip
    for wrong in wrongs:
        assert shell("token", *wrong).code == 2


def test_a_tokens_limits_are_set_shown_and_changed(shell: Shell) -> None:
    limited = ("--per-minute", 60, "--labels-per-day", 9, "--only", "default")
    shell.json("token", "add", "lim", "--role", "label", *limited)

    def limits() -> tuple[object, ...]:
        found = next(t for t in shell.json("token", "list")["tokens"] if t["name"] == "lim")
        return found["model"], found["per_minute"], found["labels_per_day"]

    assert limits() == ("default", 60, 9)
    shell.json("token", "set", "lim", "--per-minute", "0", "--labels-per-day", "20")
    assert limits() == ("default", None, 20)
    wrongs: tuple[tuple[str, ...], ...] = (
        ("set", "lim"), ("set", "nobody", "--per-minute", "3"), ("add", "x:y", "--role", "label"),
        ("add", "silence", "--role", "label"), ("add", "anonymous", "--role", "label"),
        ("add", "esc\x1b", "--role", "label"), ("add", "other", "--role", "label", "--only", "nothing"),
    )  # fmt: skip
    for wrong in wrongs:
        assert shell("token", *wrong).code == 2, wrong


def test_labellers_are_listed_set_apart_and_cleared(shell: Shell) -> None:
    names = [a.id for a in live(shell, "good", 3)]
    file = shell.write("labels.csv", "prediction_id,label,actor", *(f"{name},pos,ann" for name in names))
    shell.json("label", file)

    def ann() -> dict[str, Any]:
        return next(one for one in shell.json("labels", "trust")["labellers"] if one["actor"] == "ann")

    assert (ann()["apart"], ann()["labels"]) == (False, 3)
    assert "ann" in shell("labels", "trust").out
    assert shell.json("labels", "trust", "ann", "--apart")["apart"]
    assert ann()["apart"]
    assert ann()["decided_by"] == actor()
    shell.json("labels", "trust", "ann", "--clear")
    assert not ann()["apart"]
    assert shell("label", shell.write("no.csv", "prediction_id,label,actor", f"{names[0]},pos,silence")).code == 2
    for wrong in (("nobody", "--apart"), ("ann", "--apart", "--clear"), ("ann",), ("--clear",)):
        assert shell("labels", "trust", *wrong).code == 2, wrong


# bad input: one sentence, exit code 2, no traceback


def assert_one_sentence(said: Said, *parts: str) -> None:
    assert said.code == 2, said
    assert "Traceback" not in said.err + said.out
    lines = [line for line in said.err.splitlines() if line.startswith("keepfit:")]
    assert len(lines) == 1, said.err
    for part in parts:
        assert part in lines[0]


BAD_FILES = {
    "one class only": ("text,label", [f"good thing {i},pos" for i in range(40)], "class"),
    "no label column": ("text,number", [f"good thing {i},{i}" for i in range(40)], "label"),
    "one column": ("text", [f"good thing {i}" for i in range(40)], "label"),
    "no rows": ("text,label", [], ""),
    "several labels in a cell": ("text,label", [f"good {i},pos|neg" for i in range(40)], ""),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_learnt_from_is_refused(fresh: Shell, case: str) -> None:
    header, rows, part = BAD_FILES[case]
    assert_one_sentence(fresh("train", fresh.write("data.csv", header, *rows)), part)


def test_a_wrong_delimiter_is_refused_or_understood(fresh: Shell) -> None:
    rows = [f"{word} thing {i}|{label}" for i in range(30) for word, label in TWO_WORDS]
    said = fresh("train", fresh.write("data.csv", "text|label", *rows))
    if said.code:
        assert_one_sentence(said)


@pytest.mark.parametrize("command", ["train", "evaluate", "gate", "label"])
def test_a_file_that_is_not_there_is_named(shell: Shell, command: str) -> None:
    assert_one_sentence(shell(command, "nowhere.csv"), "there is no file nowhere.csv")


def test_a_folder_or_a_foreign_file_is_no_table(shell: Shell) -> None:
    assert_one_sentence(shell("train", shell.folder), "is not a file")
    assert_one_sentence(shell("batch", shell.folder / "keepfit.toml", "out.csv"), "keepfit.toml")
    (shell.folder / "data.parquet").write_bytes(b"PAR1 and then nothing")
    assert_one_sentence(shell("train", shell.folder / "data.parquet"), "data.parquet")


def test_a_named_column_that_is_missing_is_named_with_those_that_are_there(shell: Shell) -> None:
    with (shell.folder / "keepfit.toml").open("a", encoding="utf-8") as settings:
        settings.write('[models.default.columns]\ntext = ["txt"]\n')
    assert_one_sentence(shell("train", shell.folder / "data.csv"), "'txt'", "text, label")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("trakcing = 'local'", "did you mean 'tracking'?"),
        ("[server]\nprot = 1", "did you mean 'port'?"),
        ("[models.default]\ntask = 'toy'\nlables = 'complete'", "did you mean 'labels'?"),
        ("[models.default.watch]\nevery = 'often'", "models.default.watch.every"),
        ("[[models.default.triggers]]\nkind = 'wish'", "wish"),
        ("this is not toml", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_known_one(
    tmp_path: Path, line: str, part: str, keepfit: Command
) -> None:
    (tmp_path / "keepfit.toml").write_text(line + "\n", "utf-8")
    assert_one_sentence(Shell(tmp_path, keepfit)("check"), part)


def test_an_unknown_model_or_version_is_named_with_the_known_ones(shell: Shell) -> None:
    assert_one_sentence(shell("status", "--model", "other"), "'other'", "default")
    assert_one_sentence(shell("models", "--reproduce", 9), "9")
    assert_one_sentence(shell("rollback", "--to", 9), "9")


@pytest.mark.parametrize("words", [("evaluate", "data.csv"), ("batch", "data.csv", "out.csv")])
def test_before_the_first_version_the_next_step_is_named(fresh: Shell, words: tuple[str, ...]) -> None:
    write_rows(fresh.folder / "data.csv", TWO_WORDS)
    said = fresh(words[0], fresh.folder / words[1], *(fresh.folder / name for name in words[2:]))
    assert_one_sentence(said, "keepfit train DATA")


def test_an_unknown_prediction_stores_no_label_at_all(shell: Shell) -> None:
    answers = live(shell, "good", 1)
    file = shell.write("labels.csv", "prediction_id,label", f"{answers[0].id},pos", "nothing,pos")
    assert_one_sentence(shell("label", file), "nothing")
    with shell.project() as project:
        assert project.store.training_data(MODEL) == []


def test_programs_get_errors_as_json(shell: Shell) -> None:
    said = shell("promote", 99, "--json")
    assert said.code == 2
    assert json.loads(said.err).keys() == {"error", "kind"}


def test_a_damaged_version_is_said_and_nothing_breaks(shell: Shell) -> None:
    (shell.folder / ".keepfit" / "models" / MODEL / "1" / "model.json").write_text("{", "utf-8")
    write_rows(shell.folder / "data.csv", TWO_WORDS)
    said = shell("batch", shell.folder / "data.csv", shell.folder / "out.csv")
    assert_one_sentence(said, "model.json is changed")


@pytest.mark.parametrize(
    "words",
    [("serve", "--port", 99999), ("gate", "data.csv", "--candidate", 0), ("train",), ("promote", "two"), ("fly",)],
)
def test_a_command_that_is_called_wrongly_says_how(shell: Shell, words: tuple[object, ...]) -> None:
    said = shell(*words)
    assert said.code == 2
    assert "Usage: " in said.err
    assert "Traceback" not in said.err


FILES = {
    "empty": b"",
    "binary": bytes(range(256)) * 20,
    "damaged gzip": b"\x1f\x8bnot gzip",
    "broken json": b"{broken\n" * 9,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", ["train", "batch", "label"])
def test_a_file_that_cannot_be_read_is_refused_by_every_command(shell: Shell, command: str, kind: str) -> None:
    file = shell.folder / {"damaged gzip": "data.csv.gz", "broken json": "data.jsonl"}.get(kind, "data.csv")
    file.write_bytes(FILES[kind])
    more = [shell.folder / "out.csv"] if command == "batch" else []
    assert_one_sentence(shell(command, file, *more), "data.")
    assert not (shell.folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("target", "part"),
    [("nowhere/out.csv", "does not exist"), ("data.csv", "is the input"), ("out.xyz", "must end in")],
)
def test_an_output_that_cannot_be_meant_is_refused(shell: Shell, target: str, part: str) -> None:
    assert_one_sentence(shell("batch", shell.folder / "data.csv", shell.folder / target), part)


@pytest.mark.parametrize("command", ["up", "serve", "worker"])
@pytest.mark.parametrize("option", [["--model", "default"], ["--json"]])
def test_an_option_that_a_process_cannot_honour_is_refused(command: str, option: list[str]) -> None:
    with pytest.raises(SettingsError, match="leave --"):
        cli([command, *option], standalone_mode=False)


# keeping and forgetting


def set_retention(shell: Shell, *lines: str) -> None:
    (shell.folder / "keepfit.toml").write_text("\n".join([SETTINGS, "[retention]", *lines, ""]), "utf-8")


def test_without_limits_pruning_deletes_nothing(shell: Shell) -> None:
    live(shell, "good")
    done = shell.json("prune")
    assert (done["gone"], done["kept"], done["freed_bytes"]) == ([], [], 0)
    assert "Nothing is over its limit" in shell("prune").out
    decisions = shell.json("decisions")["decisions"]
    assert [d["outcome"] for d in decisions if d["subject"] == "prune"] == ["pass", "pass"]


def test_prune_says_what_goes_and_why_and_pins_are_kept(shell: Shell) -> None:
    for _ in range(3):
        shell("retrain", "--wait")
        with shell.project() as project:
            serve(project)
    set_retention(shell, "versions_most = 1")
    assert shell.json("models", "--pin", 1) == {"pinned": 1}
    planned = shell.json("prune", "--dry-run")
    assert [(one["kind"], one["name"]) for one in planned["gone"]] == [("version", "2")]
    assert planned["gone"][0]["bytes"] > 0
    assert "it is pinned" in " ".join(one["because"] for one in planned["kept"])
    assert shell.json("models", "--unpin", 1) == {"unpinned": 1}
    said = shell("prune")
    assert "gone: version 1 of 'default': there are 3 newer ones and 1 are kept" in said.out
    assert "kept: version 3 of 'default'" in said.out
    known = {v["version"]: v for v in shell.json("models")["versions"]}
    assert known[1]["removed"]
    assert known[1]["metrics"]
    assert not known[3]["removed"]
    assert_one_sentence(shell("promote", 1), "were removed")
    assert_one_sentence(shell("rollback", "--to", 2), "were removed")
    assert_one_sentence(shell("models", "--unpin", 1), "not pinned")
    assert_one_sentence(shell("models", "--pin", 99), "99")
    assert_one_sentence(shell("models", "--pin", 1), "were removed")
    assert_one_sentence(shell("models", "--pin", 3, "--unpin", 3), "either")


def test_prune_gives_the_room_of_rows_back(shell: Shell) -> None:
    with shell.project() as project:
        long_ago = project.home.clock.now() - timedelta(days=90)
        pairs = [
            (example := Example("good " + "word " * 200, long_ago, f"old-{i}"),
             replace(live_answer(example), time=long_ago)) for i in range(300)
        ]  # fmt: skip
        project.store.add_predictions(MODEL, pairs)
    set_retention(shell, 'predictions_for = "60d"')
    done = shell.json("prune", "--vacuum")
    assert done["gone"][0]["count"] == 300
    assert done["database_bytes"] > 300_000
    assert done["vacuumed_bytes"] > 200_000
    assert_one_sentence(shell("prune", "--vacuum", "--dry-run"), "leave one of them out")
    assert_one_sentence(shell("prune", "--model", "default"), "every model")


def live_answer(example: Example) -> Prediction:
    return Prediction(
        example.id, 1, ("neg", "pos"), np.array([0.1, 0.9], np.float32), np.zeros(8, np.float32), example.time
    )


def test_forget_removes_a_key_and_proves_it(shell: Shell) -> None:
    secret = "a secret that nobody else would write down"
    with shell.project() as project:
        example = Example(secret, project.home.clock.now(), "order-4711", "customer-17")
        project.store.add_predictions(MODEL, [(example, replace(live_answer(example), key="customer-17"))])
    tell(shell, [replace(live_answer(example), id="x")], "pos")
    shell("retrain", "--wait")
    planned = shell.json("forget", "--key", "customer-17", "--dry-run")
    assert (planned["rows"]["examples"], planned["snapshot_rows"], planned["searched"]) == (1, 1, None)
    done = shell.json("forget", "--key", "customer-17")
    assert done["searched"]["found"] == 0, done
    assert done["searched"]["files"] > 3
    assert done["rows"]["labels"] == 1
    assert done["trained_on_it"] == ["version 2 of 'default'"]
    assert "backups" in " ".join(done["remains"])
    assert not any(secret.encode() in p.read_bytes() for p in (shell.folder / ".keepfit").rglob("*") if p.is_file())
    version = next(v for v in shell.json("models")["versions"] if v["version"] == 2)
    assert done["snapshots"] == {version["snapshot"]: version["snapshot_rewritten_as"]}
    assert "now " in shell("models").out
    assert "Nothing about it is kept here" in shell("forget", "--key", "customer-17").out
    assert shell("retrain", "--wait").code == 0
    assert shell.json("models", "--reproduce", 1)["same"]


def test_forget_must_be_told_whom(shell: Shell) -> None:
    assert_one_sentence(shell("forget"), "--id", "--key")
    assert_one_sentence(shell("forget", "--id", "a", "--model", "default"), "every model")


# costs


def test_costs_shows_what_a_training_and_a_file_used(shell: Shell) -> None:
    write_rows(shell.folder / "in.csv", TWO_WORDS, 2)
    shell("batch", shell.folder / "in.csv", shell.folder / "out.csv")
    report = shell.json("costs")
    one = report["models"][MODEL]
    (made,) = one["retrainings"]
    assert set(made["cpu_seconds_by_step"]) == {"snapshot", "fit", "evaluate", "register", "judge", "deploy"}
    assert made["version"] == 1
    assert one["batch"]["seconds"] > 0
    assert report["total"]["money"] is None
    words = shell("costs").out
    assert "no price is set" in words
    assert "saved by cache: not stated" in words


def test_costs_in_money_shows_the_arithmetic_and_the_budget(shell: Shell) -> None:
    with (shell.folder / "keepfit.toml").open("a", encoding="utf-8") as file:
        file.write("[costs]\nper_cpu_hour = 0.05\nper_label = 0.1\nmonthly_budget = 5\nenforce = true\n")
    words = shell("costs").out
    assert "CPU h x 0.05 + 0 labels x 0.1 =" in words
    assert "only harm or a person begins a retraining" in words
    assert_one_sentence(shell("costs", "--month", "soon"), "2026-11")
