"""The wheel holds all that keepfit needs, and works where there is no repository."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from keepfit import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARTS = ("src", "deploy", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in", "Makefile")
DEADLINE = 120.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, made without a network."""
    if importlib.util.find_spec("build") is None:
        if os.environ.get("CI") == "true":
            raise ImportError("the package build is not installed")
        pytest.skip("the package build is not installed")
    place = tmp_path_factory.mktemp("source")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.png")
            shutil.copytree(source, place / part, ignore=junk)
        else:
            shutil.copy(source, place / part)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def source_files() -> set[str]:
    """What lies in the package, by its place in a wheel."""
    files = (path for path in (ROOT / "src/keepfit").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / "src").as_posix() for path in files}


def test_the_wheel_holds_every_file_of_the_package_and_the_dashboards(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"keepfit-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
    assert {name for name in names if name.startswith("keepfit/")} == source_files()
    assert any(name.endswith("share/keepfit/grafana/keepfit.json") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "src"))]


def test_the_source_archive_holds_what_the_wheel_is_made_of(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {f"src/{name}" for name in source_files()} <= names
    assert {"pyproject.toml", "LICENSE", "deploy/grafana/keepfit.json", "CHANGELOG.md"} <= names


@pytest.fixture(scope="module")
def empty(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it depends on, and without this repository; its folder of programs."""
    (wheel,) = built.glob("*.whl")
    venv = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=DEADLINE)
    python = venv / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, timeout=DEADLINE)
    (site,) = (venv / "lib").glob("python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", "utf-8")  # its own .pth are not read
    return venv / "bin"


def run(empty: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """An installed program, where nothing of the repository is at hand."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(empty / words[0]), *words[1:]]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_the_installed_wheel_begins_a_project(empty: Path, tmp_path: Path) -> None:
    place = run(empty, tmp_path, "python", "-c", "import keepfit; print(keepfit.__file__)")
    assert str(ROOT) not in place.stdout
    assert str(empty.parent) in place.stdout
    assert __version__ in run(empty, tmp_path, "keepfit", "--version").stdout
    assert run(empty, tmp_path, "keepfit", "init", "p").returncode == 0
    said = run(empty, tmp_path, "keepfit", "doctor", "--project", "p", "--json")
    assert said.returncode in {0, 1}, said.stderr
    findings = {one["what"]: one["ok"] for one in json.loads(said.stdout)["findings"]}
    assert findings["schema"], "the migrations are in the wheel"
    assert findings["backbone"]


def test_the_demo_begins_without_the_repository(empty: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(empty / "keepfit"), "demo", "--out", str(tmp_path / "demo")]
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    try:
        while not list((tmp_path / "demo").rglob("*.parquet")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the demo did not begin to learn"
            pause.wait(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
