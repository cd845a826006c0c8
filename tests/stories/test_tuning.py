"""`train --tune`: recipes are tried before a training, the decision is kept, and the best one is used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from optuna import TrialPruned

from keepfit.app.project import Project
from keepfit.app.wiring import learning_half, recipe, traits
from keepfit.data.records import Job, JobState
from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.errors import InvalidInput, Refused
from keepfit.pipelines.tune import Trials, space_of, study_name, tune_recipe
from keepfit.training.recipe import Recipe
from keepfit.training.space import Space
from keepfit.training.trials import Trial, Tuned
from keepfit.training.tuning import Search, tune

Command = Callable[..., tuple[int, str, str]]
"""See `keepfit` in conftest."""

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.gate.invariances]
case = 0.1
"""
FASTER = 5e-5


def silent(metrics: Mapping[str, float], step: int) -> None:
    """Report to nobody."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A labelled file, in a project in which nothing was trained."""
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    file = tmp_path / "data.csv"
    rows = [f"{word} thing number {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    file.write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    return file


@pytest.fixture
def project(data: Path) -> Iterator[Project]:
    opened = Project(data.parent)
    yield opened
    opened.close()


def found_before(project: Project, snapshot: Snapshot, search: Search) -> Tuned:
    """A search that an earlier command has finished, in which a lower learning rate was the best."""
    base = recipe(project.settings)
    space = Space.around(base, search.kind, traits("toy").tunable)
    name = study_name(learning_half("toy"), snapshot, space, search)

    def loss(tried: Recipe, _: object) -> float:
        return abs(tried.learning_rate - FASTER) + (tried.batch_size != base.batch_size)

    return tune(loss, space, search, project.home.tuning_url, name, silent)


# what is done


def test_recipes_are_tried_before_a_training_and_the_decision_is_kept(data: Path, keepfit: Command) -> None:
    code, out, err = keepfit("train", data, "--tune", 3, "--project", data.parent, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["deployed"]
    assert [(t["number"], t["state"]) for t in result["tuning"]["trials"]] == [
        (1, "finished"), (2, "finished"), (3, "finished"),
    ]  # fmt: skip
    assert result["tuning"]["best"] == Recipe().to_json(), "the toy learns the same from every recipe"
    decisions = json.loads(keepfit("decisions", "--project", data.parent, "--json")[1])["decisions"]
    (kept,) = (d for d in decisions if d["subject"] == "tune")
    assert kept["outcome"] == "hold"
    assert kept["because"] == result["tuning"]["because"]
    assert kept["evidence"]["trials"] == result["tuning"]["trials"]
    assert kept["evidence"]["search"] == "tpe"
    assert [path.name for path in (data.parent / ".keepfit" / "work" / "tune-default").iterdir()] == ["lock"]
    (logged,) = (data.parent / ".keepfit" / "models" / MODEL / "searches").iterdir()
    assert json.loads(logged.read_text("utf-8"))["trials"] == result["tuning"]["trials"]


def test_the_best_recipe_is_the_one_that_the_version_is_made_from(
    data: Path, project: Project, keepfit: Command
) -> None:
    snapshot = project.import_data(data)[0]
    search = project.search(6, "grid")
    before = found_before(project, snapshot, search)
    assert before.best == Recipe(learning_rate=FASTER)
    code, out, err = keepfit("train", data, "--tune", 6, "--search", "grid", "--project", data.parent)
    assert code == 0, err
    assert f"below [models.{MODEL}.recipe]:\n  learning_rate = {FASTER}" in out
    assert "as set" in out
    assert "6 trials had been done by an earlier run of the same search" in out
    assert "the gate's numbers on the test part" in out
    assert project.registry.version(MODEL, 1).lineage.recipe == before.best
    (kept,) = project.store.decisions(MODEL, subject="tune")
    assert str(kept.decision).startswith("advance: best of 6 trials by log loss on the validation part")
    assert kept.decision.evidence["changes"] == {"learning_rate": FASTER}


def test_a_search_that_was_stopped_goes_on_with_the_same_command(data: Path, project: Project) -> None:
    def stopped(metrics: Mapping[str, float], step: int) -> None:
        if metrics.get("trial") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.train(data, stopped, tune=project.search(4))
    heard: list[float] = []
    result = project.train(data, lambda metrics, _: heard.append(metrics.get("trial", 0.0)), tune=project.search(4))
    assert heard[0] == 3
    assert heard[-1] == 0, "the training itself"
    assert len(result["tuning"]["trials"]) == 4
    assert "2 trials had been done by an earlier run of the same search" in result["tuning"]["because"]
    assert result["version"] == 1


def test_a_training_that_was_killed_after_its_search_goes_on_with_the_same_command(
    data: Path, project: Project
) -> None:
    snapshot = project.import_data(data)[0]
    tuned = project.tune(snapshot, project.search(2))
    request = {"reason": "first", "snapshot": snapshot.id, "recipe": tuned.best.to_json(), "tuned": True}
    project.store.join_or_add_job(Job("j", MODEL, "retrain", project.home.clock.now(), request=request))
    result = project.train(data, tune=project.search(2))
    assert (result["job"], result["version"], result["deployed"]) == ("j", 1, True)


def test_a_registry_that_takes_no_trials_costs_a_sentence_and_no_search(data: Path, project: Project) -> None:
    home = data.parent / ".keepfit" / "models" / MODEL
    home.mkdir(parents=True)
    (home / "searches").write_text("not a folder", "utf-8")
    result = project.train(data, tune=project.search(1))
    assert result["version"] == 1
    assert any(said.startswith("the trials were not logged: ") for said in result["tuning"]["because"])


def test_recipes_are_tried_together_first_and_the_training_finds_them_done(data: Path, keepfit: Command) -> None:
    where = ("--project", data.parent)
    for trials in (3, 4, 4):  # one process after the other has its part; how several do, test_sharing tells
        code, out, err = keepfit("tune", data, "--trials", trials, "--pruner", "halving", *where, "--json")
        assert code == 0, err
        assert len(json.loads(out)["trials"]) == trials
    assert not [p for p in (data.parent / ".keepfit" / "work").rglob("*") if p.is_file()]
    code, out, err = keepfit("train", data, "--tune", 4, "--pruner", "halving", *where, "--json")
    assert code == 0, err
    assert "4 trials had been done by an earlier run of the same search" in json.loads(out)["tuning"]["because"]
    decisions = json.loads(keepfit("decisions", *where, "--json")[1])["decisions"]
    assert len([d for d in decisions if d["subject"] == "tune"]) == 3, (
        "one of each number of trials, and the training's"
    )


def test_a_search_ends_when_its_money_is_used_up(data: Path, keepfit: Command) -> None:
    settings = data.parent / "keepfit.toml"
    settings.write_text(settings.read_text("utf-8") + "\n[costs]\nper_cpu_hour = 1e9\n", "utf-8")
    code, out, err = keepfit("tune", data, "--trials", 9, "--money", 0.01, "--project", data.parent, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["trials"]) == 1
    assert any("of 0.01) after 1 of 9 trials" in said for said in found["because"])


# what is refused


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--search", "grid"), "--search needs --tune N"),
        (("--tune-minutes", "5"), "--tune-minutes needs --tune N"),
        (("--pruner", "halving", "--tune-money", "5"), "--tune-money and --pruner need --tune N"),
        (("--tune", "3", "--pruner", "hyperband"), "known are median, halving"),
        (("--tune", "3", "--tune-money", "5"), "set per_cpu_hour below [costs]"),
        (("--tune", "0"), "--tune"),
        (("--tune", "-2"), "--tune"),
        (("--tune", "3", "--tune-minutes", "-1"), "--tune-minutes"),
        (("--tune", "3", "--tune-minutes", "inf"), "zero (no limit) or more"),
        (("--tune", "3", "--search", "annealing"), "known are tpe, random, grid"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    data: Path, words: tuple[str, ...], part: str, keepfit: Command
) -> None:
    code, out, err = keepfit("train", data, *words, "--project", data.parent)
    assert (code, out) == (2, "")
    assert part in err
    assert "Traceback" not in err
    assert not (data.parent / ".keepfit" / "snapshots").exists()


def test_a_task_that_has_nothing_to_tune_says_so(data: Path, keepfit: Command) -> None:
    (data.parent / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "video"\n', "utf-8")
    code, _, err = keepfit("train", data, "--tune", 2, "--project", data.parent)
    assert code == 2
    assert "the task 'video' has nothing to tune; leave --tune out" in err


def test_a_search_compares_trainings_that_begin_anew_whatever_the_settings_say(data: Path) -> None:
    project = Project(data.parent, environ={"KEEPFIT_MODELS__DEFAULT__RECIPE__START": "warm"})
    for number in (1, 2):
        assert project.train(data, tune=project.search(2))["version"] == number
        assert project.registry.version("default", number).lineage.recipe.start == "new"


def test_one_search_at_a_time_runs_for_a_model(data: Path, project: Project) -> None:
    workdir = data.parent / ".keepfit" / "work" / "tune-default"
    workdir.mkdir(parents=True)
    with FileLock(workdir / "lock"), pytest.raises(Refused, match="another search runs"):
        project.train(data, tune=project.search(2))


def test_nothing_is_tried_while_a_training_is_under_way_that_could_not_use_it(data: Path, project: Project) -> None:
    snapshot = project.import_data(data)[0]
    now = project.home.clock.now()
    project.store.join_or_add_job(Job("j", MODEL, "retrain", now, request={"snapshot": snapshot.id}))
    with pytest.raises(Refused, match="under way"):
        project.train(data, tune=project.search(2))
    assert not Path(project.home.tuning_url.removeprefix("sqlite:///")).exists()
    project.store.update_job("j", state=JobState.FAILED, result={}, finished_at=now)
    assert project.train(data, tune=project.search(2))["version"] == 1


def test_without_rows_to_validate_on_there_is_no_search(tmp_path: Path) -> None:
    parts = [Split.TRAIN, Split.TEST]
    rows = [SnapshotRow(f"{i}", f"{'ab'[i % 2]} {i}", "xy"[i % 2], str(i), parts[i // 10]) for i in range(20)]
    snapshot = write_snapshot(tmp_path, rows, ("text",), {})
    trials = Trials(tmp_path / "work", f"sqlite:///{tmp_path / 'tuning.db'}", traits("toy").tunable)
    task = learning_half("toy")
    with pytest.raises(InvalidInput, match="validation part is empty"):
        tune_recipe(space_of(task, Recipe(), Search(), trials), task, snapshot, Search(), trials, silent)


# real trainings, and MLflow

GOOD, BAD, FILLER = ("lovely", "superb"), ("dreadful", "boring"), ("the", "film", "was", "a", "story")


def reviews(folder: Path, n: int = 120) -> Snapshot:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        split = Split.TRAIN if i < 0.7 * n else Split.VALIDATION if i < 0.85 * n else Split.TEST
        words = [str(rng.choice((BAD, GOOD)[i % 2])), *map(str, rng.choice(FILLER, 6))]
        rows.append(SnapshotRow(f"{i:05d}", " ".join(words), ("negative", "positive")[i % 2], str(i), split))
    return write_snapshot(folder, rows, ("text",), {"kind": "test"})


def tiny_recipe(backbone: str) -> Recipe:
    return Recipe(
        backbone=backbone, epochs=2, batch_size=16, max_tokens=32, learning_rate=3e-4, precision="fp32",
        inference="fp32",
    )  # fmt: skip


@pytest.mark.slow
def test_what_the_backbone_cannot_do_is_not_tried(tmp_path: Path, tiny_bert: Callable[..., str]) -> None:
    task = learning_half("text")
    trials = Trials(tmp_path, "", traits("text").tunable)
    one, three = (Recipe(backbone=tiny_bert(tmp_path / f"b{n}", layers=n)) for n in (1, 3))
    alone = space_of(task, one, Search(), trials)
    assert alone.ranges["frozen_layers"].choices == (0,)
    assert alone.ranges["lora_rank"].choices == (0, 8)
    assert any(said.startswith("frozen_layers 2 is not tried: ") and "1 layers" in said for said in alone.left_out)
    assert space_of(task, three, Search(), trials).ranges["frozen_layers"].choices == (0, 2)
    assert space_of(task, one, Search("grid"), trials).left_out == (), "a grid asks for neither"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that convert
def test_real_trainings_are_tuned_and_can_be_ended_early(tmp_path: Path, tiny_bert: Callable[..., str]) -> None:
    base, snapshot, task = (
        tiny_recipe(tiny_bert(tmp_path / "backbone")),
        reviews(tmp_path / "data"),
        learning_half("text"),
    )
    trials = Trials(tmp_path / "work", f"sqlite:///{tmp_path / 'tuning.db'}", ("learning_rate", "epochs"))
    heard: list[Mapping[str, float]] = []

    def ended(metrics: Mapping[str, float], step: int) -> None:
        if "eval_loss" in metrics:
            raise TrialPruned

    with pytest.raises(TrialPruned):
        task.fit(snapshot, base, ended, tmp_path / "ended")
    search = Search("random", 2)
    space = space_of(task, base, search, trials)
    tuned = tune_recipe(space, task, snapshot, search, trials, lambda metrics, _: heard.append(metrics))
    assert [t.state for t in tuned.trials] == ["finished", "finished"]
    assert tuned.trials[0].loss != tuned.trials[1].loss
    assert {m["trial"] for m in heard if "eval_loss" in m} == {1, 2}
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.slow
def test_mlflow_has_a_run_of_the_search_and_one_below_it_for_each_trial(tmp_path: Path) -> None:
    from keepfit.registry.mlflow import MlflowRegistry
    from keepfit.registry.mlflow_quiet import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    registry, client = MlflowRegistry(uri, tmp_path / "models"), MlflowClient(uri, uri)
    better = Recipe(learning_rate=FASTER)
    tried = (Trial(1, Recipe(), "finished", 0.5, 60.0), Trial(2, better, "finished", 0.4, 50.0),
             Trial(3, Recipe(batch_size=16), "stopped early", None, 9.0),
             Trial(4, Recipe(warmup=0.2), "failed", None, 1.0, "it cannot be learnt"))  # fmt: skip
    for known in (2, 4):  # more trials follow
        tuned = Tuned(better, tried[:known], ("best of all",), ("learning_rate",), {"learning_rate": 1.0})
        registry.log_search("reviews", "a search", tuned)
    registry.log_search("others", "a search", tuned)
    experiment = client.get_experiment_by_name("keepfit").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`keepfit.kind` = 'search' and tags.`keepfit.model` = 'reviews'")
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    runs = sorted(below, key=lambda found: int(found.data.tags["keepfit.trial"]))
    assert [r.info.status for r in runs] == ["FINISHED", "FINISHED", "KILLED", "FAILED"]
    assert [r.data.metrics.get("validation_loss") for r in runs] == [0.5, 0.4, None, None]
    assert runs[1].data.params["learning_rate"] == str(FASTER)
    assert runs[3].data.tags["keepfit.error"] == "it cannot be learnt"
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"validation_loss": 0.4, "importance/learning_rate": 1.0}
    assert parent.data.tags["keepfit.recipe"] == better.hash
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"search.json", "trials.png", "importance.png"}
