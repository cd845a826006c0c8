"""The registry's values, its comparison of two evaluations, and its files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keepfit.data.snapshot import Split
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput
from keepfit.evaluation.evaluator import Evaluation
from keepfit.intervals import Interval, wilson
from keepfit.registry.files import damage, locked, place, write_at_once, write_manifest
from keepfit.registry.local import LocalRegistry
from keepfit.registry.registry import Lineage, ModelVersion, compare, model_folder
from keepfit.training.recipe import Recipe

AT = datetime(2025, 3, 1, tzinfo=UTC)
WAS = Evaluation(
    "s1", Split.TEST, 100, ("a", "b"), {"accuracy": wilson(90, 100), "f1": Interval(math.nan, 0, 1, 0)}, {},
    ((45, 5), (5, 45)),
)  # fmt: skip
LINEAGE = Lineage("s1", Recipe(seed=3), "harm", "job", 2, "0.1.0")


def test_a_version_survives_json() -> None:
    version = ModelVersion(
        "m", 4, LINEAGE, replace(WAS, metrics={}), AT, Decision(Outcome.PASS, ("so",), {"p": 0.1}), "r"
    )
    assert ModelVersion.from_json(json.loads(json.dumps(version.to_json()))) == version
    assert version.lineage.seed == 3


def test_the_same_evaluation_has_no_differences() -> None:
    assert compare(WAS, Evaluation.from_json(WAS.to_json())) == []


def test_a_difference_within_the_old_interval_is_explained() -> None:
    now = replace(WAS, metrics=WAS.metrics | {"accuracy": wilson(91, 100)}, confusion=((46, 4), (5, 45)))
    found = compare(WAS, now)
    assert [(d.what, d.explained) for d in found] == [("accuracy", True), ("answers in the confusion matrix", True)]
    assert "was 0.900000, now 0.910000 (within" in str(found[0])


def test_a_difference_beyond_the_old_interval_is_not() -> None:
    found = compare(WAS, replace(WAS, metrics=WAS.metrics | {"accuracy": wilson(50, 100)}))
    assert [(d.what, d.explained) for d in found] == [("accuracy", False)]


def test_other_data_other_classes_and_other_metrics_are_told() -> None:
    now = replace(WAS, snapshot_id="s2", labels=("a", "c"), n=99, metrics={})
    assert [d.what for d in compare(WAS, now)] == ["snapshot", "rows", "classes", "metrics"]


def test_a_model_name_cannot_leave_its_folder() -> None:
    with pytest.raises(InvalidInput, match="model name"):
        model_folder(Path("models"), "../../etc", 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "model"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text('{"task": "toy"}', "utf-8")
    (folder / "weights").write_bytes(b"12")
    return folder


def test_a_manifest_sees_every_change(model: Path) -> None:
    assert damage(model) == "it has no manifest"
    write_manifest(model)
    assert damage(model) is None
    (model / "weights").write_bytes(b"13")
    assert damage(model) == "weights is changed"
    (model / "weights").unlink()
    assert damage(model) == "weights is missing"


def test_a_folder_is_placed_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(part: Path) -> None:
        (part / "new").write_text("x", "utf-8")
        if (tmp_path / "home" / "1").exists():
            raise OSError(28, "No space left on device")

    place(tmp_path / "home" / "1", fill)
    with pytest.raises(BackendError, match="No space left"):
        place(tmp_path / "home" / "1", fill)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["1"]
    assert [path.name for path in (tmp_path / "home" / "1").iterdir()] == ["new"]


def test_a_lock_that_is_held_ends_in_a_sentence(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BackendError, match="in use by another process"), locked(tmp_path, 0.01):
        pass


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(BackendError, match="cannot be written"):
        write_at_once(tmp_path / "file" / "below", "x")
    with pytest.raises(BackendError, match="cannot be written"), locked(tmp_path / "file"):
        pass


def test_a_kill_between_the_model_and_its_entry_leaves_nothing_behind(tmp_path: Path, model: Path) -> None:
    registry = LocalRegistry(tmp_path / "models")
    registry.register("m", model, LINEAGE, WAS, AT)
    (tmp_path / "models" / "m" / "1.json").unlink()
    (model / "weights").write_bytes(b"14")
    assert registry.versions("m") == []
    assert registry.register("m", model, LINEAGE, WAS, AT).number == 1
    assert (registry.fetch("m", 1) / "weights").read_bytes() == b"14"


def test_a_damaged_entry_is_a_sentence(tmp_path: Path, model: Path) -> None:
    registry = LocalRegistry(tmp_path / "models")
    registry.register("m", model, LINEAGE, WAS, AT)
    for text in ("{", "{}"):
        (tmp_path / "models" / "m" / "1.json").write_text(text, "utf-8")
        with pytest.raises(BackendError, match="is damaged"):
            registry.version("m", 1)


def test_metrics_are_kept_line_by_line(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path)
    registry.progress("job/1", "m", LINEAGE)({"loss": 0.5}, 3)
    registry.log_window("m", AT, {"accuracy": 0.9})
    assert json.loads((tmp_path / "m" / "runs" / "job%2F1.jsonl").read_text("utf-8")) == {"step": 3, "loss": 0.5}
    assert json.loads((tmp_path / "m" / "monitoring.jsonl").read_text("utf-8"))["accuracy"] == 0.9


REGISTERS = """
import sys
from pathlib import Path
from keepfit.registry.local import LocalRegistry
from keepfit.registry.registry import ModelVersion
import json
like = ModelVersion.from_json(json.loads(sys.argv[3]))
made = LocalRegistry(Path(sys.argv[1])).register("m", Path(sys.argv[2]), like.lineage, like.evaluation, like.at)
print(made.number, "mlflow" in sys.modules, "torch" in sys.modules)
"""


def test_two_processes_make_one_version_of_a_job_and_never_load_mlflow(tmp_path: Path, model: Path) -> None:
    like = json.dumps(ModelVersion("m", 1, LINEAGE, WAS, AT).to_json())
    command = [sys.executable, "-c", REGISTERS, str(tmp_path / "models"), str(model), like]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [["1", "False", "False"]] * 2
