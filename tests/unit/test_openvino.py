"""What is particular to OpenVINO: the stated precision, damaged files, silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset8 as ops

from keepfit.engine.openvino import HINTS, OpenVinoEngine, has_bf16, usable_cpus
from keepfit.errors import BackendError


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    """A network that multiplies rows of numbers with a table."""
    rows = ops.parameter([-1, 64], np.float32, name="rows")
    table = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
    result = ops.matmul(rows, ops.constant(table), False, False)
    rows.output(0).set_names({"rows"})
    result.output(0).set_names({"product"})
    path = tmp_path / "model.xml"
    ov.save_model(ov.Model([result], [rows]), path, compress_to_fp16=False)
    return path


def rows(n: int) -> dict[str, np.ndarray]:
    return {"rows": np.random.default_rng(n).normal(size=(n, 64)).astype(np.float32)}


def test_fp32_means_fp32_even_where_the_cpu_would_rather_take_bf16(xml: Path) -> None:
    table = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
    product = OpenVinoEngine.load(xml, "fp32", threads=1).infer(rows(50))["product"]
    np.testing.assert_allclose(product, rows(50)["rows"] @ table, atol=1e-4)


def test_a_precision_is_stated_for_each_kind_of_network() -> None:
    assert HINTS == {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def test_bf16_says_what_it_really_runs_as(xml: Path) -> None:
    assert OpenVinoEngine.load(xml, "bf16", threads=1).precision == ("bf16" if has_bf16() else "fp32")


def test_an_unknown_precision_is_refused_with_the_choice(xml: Path) -> None:
    with pytest.raises(BackendError, match="fp32, bf16, int8"):
        OpenVinoEngine.load(xml, "fp16")


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@pytest.mark.parametrize("damage", ["gone", "empty", "nonsense", "half"])
def test_a_damaged_file_is_refused_with_one_sentence(xml: Path, suffix: str, damage: str) -> None:
    file = xml.with_suffix(suffix)
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "nonsense": b"?" * 10, "half": content[: len(content) // 2]}[damage])
    with pytest.raises(BackendError, match=r"cannot be loaded \(.+\); fetch or register the model again") as caught:
        OpenVinoEngine.load(xml, "fp32")
    assert "\n" not in str(caught.value)


def test_files_may_vanish_once_they_are_loaded(xml: Path) -> None:
    engine = OpenVinoEngine.load(xml, "fp32", threads=1)
    before = engine.infer(rows(3))["product"]
    xml.with_suffix(".bin").write_bytes(b"")
    xml.unlink()
    np.testing.assert_array_equal(engine.infer(rows(3))["product"], before)


def test_a_failing_network_says_so_and_can_be_used_again(xml: Path) -> None:
    engine = OpenVinoEngine.load(xml, "fp32", threads=1)
    with pytest.raises(BackendError, match="failed to answer"):
        engine.infer({"rows": np.zeros((2, 63), np.float32)})
    assert engine.infer(rows(2))["product"].shape == (2, 32)


def test_there_is_a_cpu_to_use() -> None:
    assert usable_cpus() >= 1


def test_nobody_is_told_that_openvino_was_imported(tmp_path: Path) -> None:
    program = (
        "import sys, keepfit.engine.openvino; print([m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}
    )
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir()), "a consent or client id was written to the home folder"
