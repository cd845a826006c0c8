"""Every Registry: plain files, MLflow on a database file, MLflow's server over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Event
from time import monotonic
from uuid import uuid4

import pytest
import requests

from keepfit.data.snapshot import Split
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound
from keepfit.evaluation.evaluator import Evaluation
from keepfit.intervals import Interval, wilson
from keepfit.metrics import ReliabilityPoint
from keepfit.registry.local import LocalRegistry
from keepfit.registry.registry import Alias, Lineage, Registry, model_folder
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import predict
from keepfit.training.recipe import Recipe

AT = datetime(2025, 3, 1, 12, 30, 15, 250, tzinfo=UTC)
START_SECONDS = 120.0
Make = Callable[[], Registry]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once: its migrations take seconds."""
    from keepfit.registry.mlflow import MlflowRegistry

    home = tmp_path_factory.mktemp("template")
    MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "models").versions("none")
    return home / "mlflow.db"


@pytest.fixture(scope="module")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real `mlflow server` process."""
    home = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, home / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "artifacts"),
    ]  # fmt: skip
    with (home / "log").open("w") as log:
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=environ, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, home / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end, pause = monotonic() + START_SECONDS, Event()
    while monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            pause.wait(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(
    params=["local", pytest.param("sqlite", marks=pytest.mark.slow), pytest.param("server", marks=pytest.mark.slow)]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Opens the same registry again, as another process would."""
    if request.param == "local":
        return lambda: LocalRegistry(tmp_path / "models")
    from keepfit.registry.mlflow import MlflowRegistry

    if request.param == "server":
        uri = request.getfixturevalue("server")
    else:
        shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    numbers = count()
    experiment = uuid4().hex
    return lambda: MlflowRegistry(uri, tmp_path / f"machine-{next(numbers)}" / "models", experiment,
                                  artifacts=(tmp_path / "artifacts").as_uri())  # fmt: skip


@pytest.fixture
def registry(make: Make) -> Registry:
    return make()


@pytest.fixture
def name() -> str:
    """A model name of this test's own: the server serves all tests."""
    return f"m-{uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy(tmp_path / "fitted" / "model")


def toy(folder: Path, word: str = "good") -> Path:
    (folder / "ir").mkdir(parents=True)
    state = {"format": 1, "task": "toy", "labels": ["neg", "pos"], "table": {word: "pos"}, "shares": [0.5, 0.5],
             "columns": ["text"]}  # fmt: skip
    (folder / "model.json").write_text(json.dumps(state), "utf-8")
    (folder / "ir" / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "card.md").write_text("# A toy\n", "utf-8")
    return folder


def lineage(job: str = "job-1", **changes: object) -> Lineage:
    facts = {"snapshot_id": "5ab1e" * 6, "recipe": Recipe(), "reason": "harm", "job_id": job, "parent": None,
             "code": "0.1.0+abc"}  # fmt: skip
    return Lineage(**{**facts, **changes})  # type: ignore[arg-type]


def evaluation(right: int = 90, labels: tuple[str, ...] = ("neg", "pos")) -> Evaluation:
    k = len(labels)
    return Evaluation(
        "5ab1e" * 6, Split.TEST, 100, labels,
        {"accuracy": wilson(right, 100), "log_loss": Interval(0.25, 0.2, 0.3, 100)},
        {label: {"precision": wilson(9, 10), "recall": wilson(8, 10)} for label in labels},
        tuple(tuple(right // k if i == j else 1 for i in range(k)) for j in range(k)),
        {"fresh": {"accuracy": wilson(9, 10)}}, {"unseen": 2}, (ReliabilityPoint(0.6, wilson(6, 10)),),
    )  # fmt: skip


def test_what_was_registered_comes_back_unchanged_also_elsewhere(make: Make, name: str, folder: Path) -> None:
    made = make().register(name, folder, lineage(parent=3), evaluation(), AT)
    assert (made.name, made.number, made.at, made.verdict) == (name, 1, AT, None)
    assert (made.lineage, made.evaluation) == (lineage(parent=3), evaluation())
    other = make()
    assert other.version(name, 1) == made
    assert other.latest(name) == made


def test_versions_are_numbered_from_one_and_listed_newest_first(registry: Registry, name: str, folder: Path) -> None:
    assert registry.versions(name) == []
    assert registry.latest(name) is None
    for number in (1, 2, 3):
        assert registry.register(name, folder, lineage(f"job {number}"), evaluation(), AT).number == number
    assert [version.number for version in registry.versions(name)] == [3, 2, 1]
    latest = registry.latest(name)
    assert latest is not None
    assert latest.number == 3


def test_models_do_not_see_each_other(registry: Registry, name: str, folder: Path) -> None:
    registry.register(name, folder, lineage(), evaluation(), AT)
    other = registry.register(f"{name}x", folder, lineage(), evaluation(80), AT)
    assert other.number == 1
    assert [version.evaluation for version in registry.versions(name)] == [evaluation()]


@pytest.mark.parametrize("job", ["job-1", 'it\'s `odd` "%_" / näme'])
def test_a_job_registers_once_however_often_it_tries(make: Make, name: str, folder: Path, job: str) -> None:
    first = make().register(name, folder, lineage(job), evaluation(), AT)
    again = make().register(name, folder, lineage(job), evaluation(50), AT)
    assert again == first
    assert make().versions(name) == [first]


def test_two_writers_at_once_make_two_versions_and_one_of_each_job(registry: Registry, name: str, folder: Path) -> None:
    jobs = ["a", "b", "a", "b"]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda job: registry.register(name, folder, lineage(job), evaluation(), AT), jobs))
    assert made[0] == made[2]
    assert made[1] == made[3]
    assert {version.number for version in registry.versions(name)} == {1, 2}


def test_a_folder_without_a_model_is_refused(registry: Registry, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"model\.json"):
        registry.register(name, tmp_path, lineage(), evaluation(), AT)
    assert registry.versions(name) == []


@pytest.mark.parametrize("bad", ["", "../up", "a/b", ".hidden", "a" * 64, "x'y"])
def test_a_name_that_is_no_model_name_is_refused(registry: Registry, folder: Path, bad: str) -> None:
    for call in (
        lambda: registry.register(bad, folder, lineage(), evaluation(), AT),
        lambda: registry.versions(bad),
        lambda: registry.version(bad, 1),
        lambda: registry.fetch(bad, 1),
        lambda: registry.alias(bad, Alias.CHAMPION),
    ):
        with pytest.raises(InvalidInput, match="model name"):
            call()


def test_the_last_verdict_counts(make: Make, name: str, folder: Path) -> None:
    make().register(name, folder, lineage(), evaluation(), AT)
    fail = Decision(Outcome.FAIL, ("worse on 3 of 40",), {"p": 0.4, "flips": ["a", "b"]})
    make().record_verdict(name, 1, fail)
    assert make().version(name, 1).verdict == fail
    long = Decision(Outcome.PASS, ("better",), {"flips": [f"example-{i}" for i in range(2000)], "ü": None})
    make().record_verdict(name, 1, long)
    assert make().version(name, 1).verdict == long
    assert make().versions(name)[0].verdict == long


def test_an_unknown_version_is_not_found(registry: Registry, name: str, folder: Path) -> None:
    registry.register(name, folder, lineage(), evaluation(), AT)
    for model, number in ((name, 2), ("nobody", 1)):
        for call in (
            lambda m=model, n=number: registry.version(m, n),
            lambda m=model, n=number: registry.fetch(m, n),
            lambda m=model, n=number: registry.record_verdict(m, n, Decision(Outcome.PASS)),
            lambda m=model, n=number: registry.set_alias(m, Alias.CHAMPION, n),
        ):
            with pytest.raises(NotFound, match="there is no version"):
                call()


def test_roles_move_and_are_given_up(make: Make, name: str, folder: Path) -> None:
    registry = make()
    assert registry.alias(name, Alias.CHAMPION) is None
    registry.set_alias(name, Alias.CHALLENGER, None)
    for job in ("a", "b"):
        registry.register(name, folder, lineage(job), evaluation(), AT)
    registry.set_alias(name, Alias.CHAMPION, 1)
    registry.set_alias(name, Alias.CHALLENGER, 2)
    assert (make().alias(name, Alias.CHAMPION), make().alias(name, Alias.CHALLENGER)) == (1, 2)
    registry.set_alias(name, Alias.CHAMPION, 2)
    registry.set_alias(name, Alias.CHALLENGER, None)
    registry.set_alias(name, Alias.CHALLENGER, None)
    assert (make().alias(name, Alias.CHAMPION), make().alias(name, Alias.CHALLENGER)) == (2, None)


def test_a_fetched_model_has_every_file_and_answers(make: Make, name: str, folder: Path) -> None:
    make().register(name, folder, lineage(), evaluation(), AT)
    registry = make()
    fetched = registry.fetch(name, 1)
    assert fetched == model_folder(fetched.parents[1], name, 1)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (fetched / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert predict(load_answering(fetched), ["good day"]).scores[0, 1] > 0.5


def test_each_version_has_its_own_files(registry: Registry, name: str, tmp_path: Path) -> None:
    for job, word in (("a", "good"), ("b", "sick")):
        registry.register(name, toy(tmp_path / job, word), lineage(job), evaluation(), AT)
    assert predict(load_answering(registry.fetch(name, 1)), ["sick"]).scores[0, 1] == 0.5
    assert predict(load_answering(registry.fetch(name, 2)), ["sick"]).scores[0, 1] > 0.5


def test_what_is_there_and_whole_is_not_touched(registry: Registry, name: str, folder: Path) -> None:
    registry.register(name, folder, lineage(), evaluation(), AT)
    before = {path: path.stat().st_mtime_ns for path in registry.fetch(name, 1).rglob("*")}
    after = {path: path.stat().st_mtime_ns for path in registry.fetch(name, 1).rglob("*")}
    assert before == after


@pytest.mark.parametrize("file", ["ir/weights.bin", "manifest.json", "model.json", "ir/extra.bin"])
def test_a_damaged_model_is_never_handed_out(registry: Registry, name: str, folder: Path, file: str) -> None:
    registry.register(name, folder, lineage(), evaluation(), AT)
    fetched = registry.fetch(name, 1)
    (fetched / file).write_bytes(b"damaged")
    try:
        again = registry.fetch(name, 1)
    except BackendError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either is right: refused, or fetched anew
    else:
        assert (again / "ir" / "weights.bin").read_bytes() == (folder / "ir" / "weights.bin").read_bytes()
        assert not (again / "ir" / "extra.bin").exists()


def test_what_happens_to_the_given_folder_later_does_not_matter(registry: Registry, name: str, folder: Path) -> None:
    registry.register(name, folder, lineage(), evaluation(), AT)
    shutil.rmtree(folder)
    assert (registry.fetch(name, 1) / "model.json").is_file()


def test_progress_and_windows_are_taken(make: Make, name: str, folder: Path) -> None:
    report = make().progress("job-1", name, lineage())
    report({"loss": 0.7, "eval_loss": 0.6}, 10)
    make().progress("job-1", name, lineage())({"loss": 0.5}, 20)
    assert make().register(name, folder, lineage(), evaluation(), AT).number == 1
    for hour in (1, 2):
        make().log_window(name, AT.replace(hour=hour), {"accuracy": 0.9, "ks[scores]": float("nan")})


def test_many_classes_fit(make: Make, name: str, folder: Path) -> None:
    labels = tuple(f"class {i:03}" for i in range(150))
    made = make().register(name, folder, lineage(), evaluation(labels=labels), AT)
    assert make().version(name, 1).evaluation == made.evaluation == evaluation(labels=labels)


PLAIN = """
import json, pickle, sys
def refuse(*args, **kwargs):
    raise AssertionError("something is unpickled")
pickle.load = pickle.loads = pickle.Unpickler = refuse
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion")
texts = json.loads(sys.argv[2])
tables = [model.predict(texts), model.predict(pd.DataFrame({"text": texts})), model.predict(texts[:1])]
print(json.dumps([table.to_dict("list") for table in tables]))
"""


@pytest.mark.slow
def test_plain_mlflow_gives_the_same_answers_from_a_server(
    server: str, name: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from keepfit.registry.mlflow import MlflowRegistry

    registry = MlflowRegistry(server, tmp_path / "models")
    registry.progress("job-1", name, lineage())({"loss": 0.5}, 1)
    registry.register(name, folder, lineage(), evaluation(), AT)
    registry.set_alias(name, Alias.CHAMPION, 1)
    assert capfd.readouterr() == ("", "")
    texts = ["good day", "what a mess", "Good\x00 \ud83d\ude00"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, name, json.dumps(texts)], capture_output=True, text=True, check=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": server, "MLFLOW_DISABLE_TELEMETRY": "true"}, timeout=200,
    )  # fmt: skip
    listed, table, one = json.loads(done.stdout.splitlines()[-1])
    ours = predict(load_answering(registry.fetch(name, 1)), texts).scores
    assert listed == table
    assert list(listed) == ["label", "score", "p_neg", "p_pos"]
    assert listed["label"][0] == one["label"][0] == "pos"
    assert listed["p_pos"] == pytest.approx([float(score) for score in ours[:, 1]])
    assert listed["score"] == pytest.approx([float(score) for score in ours.max(axis=1)])


# removing


def test_a_removed_version_has_no_files_but_all_that_was_known_of_it(
    make: Make, name: str, folder: Path, tmp_path: Path
) -> None:
    registry = make()
    verdict = Decision(Outcome.PASS, ("better",))
    for job in ("a", "b"):
        registry.register(name, folder, lineage(job, parent=7), evaluation(), AT)
    registry.record_verdict(name, 1, verdict)
    kept = registry.fetch(name, 2)
    assert registry.size(name, 1) >= 10_000
    registry.fetch(name, 1)
    registry.remove(name, 1, AT)
    for seen in (registry, make()):
        known = seen.version(name, 1)
        assert (known.removed, known.verdict, known.lineage) == (AT, verdict, lineage("a", parent=7))
        assert known.evaluation == evaluation()
        assert [version.removed for version in seen.versions(name)] == [None, AT]
        with pytest.raises(NotFound, match="were removed on 2025-03-01"):
            seen.fetch(name, 1)
    assert (kept / "model.json").is_file()
    assert (make().fetch(name, 2) / "model.json").is_file()
    assert registry.size(name, 1) < 5_000
    assert not list(tmp_path.rglob(f"{name}/1/weights.bin"))


def test_removing_again_finishes_what_was_begun_and_changes_nothing(make: Make, name: str, folder: Path) -> None:
    registry = make()
    registry.register(name, folder, lineage(), evaluation(), AT)
    registry.remove(name, 1, AT)
    make().remove(name, 1, AT.replace(year=2026))
    assert make().version(name, 1).removed == AT
    with pytest.raises(NotFound, match="there is no version"):
        registry.remove(name, 2, AT)


def test_a_revised_version_is_whole_everywhere(make: Make, name: str, folder: Path) -> None:
    make().register(name, folder, lineage(), evaluation(), AT)
    registry = make()

    def change(copy: Path) -> bool:
        (copy / "card.md").write_text("# Another\n", "utf-8")
        return True

    assert registry.revise(name, 1, change)
    assert not registry.revise(name, 1, lambda copy: False)
    for seen in (registry, make()):
        assert (seen.fetch(name, 1) / "card.md").read_text("utf-8") == "# Another\n"
        assert (seen.fetch(name, 1) / "ir" / "weights.bin").is_file()


def test_runs_without_a_version_are_listed_and_removed(make: Make, name: str, folder: Path) -> None:
    registry = make()
    for job in ("failed", "job-1"):
        registry.progress(job, name, lineage(job))({"loss": 0.5}, 1)
    registry.register(name, folder, lineage(), evaluation(), AT)
    registry.log_window(name, AT, {"accuracy": 0.9})
    (run,) = make().runs(name)
    assert (run.kind, run.job_id) == ("training", "failed")
    registry.remove_run(name, run.id)
    registry.remove_run(name, run.id)
    assert make().runs(name) == []
    assert make().version(name, 1).evaluation == evaluation()
