"""The peers' environments: one with torch and transformers as pinned here, and one on top of it for each other peer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE = Path("build/benchmarks/peers")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
BASE = "flask"
PACKAGES: dict[str, tuple[str, ...]] = {
    "flask": ("torch", "transformers", "flask", "gunicorn"),
    "onnx": ("onnxruntime", "onnx", "fastapi", "uvicorn[standard]"),
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "infinity": ("infinity_emb[server,torch]",),
    "mlflow": ("mlflow", "torchvision"),
}
PINNED = frozenset({"flask", "mlflow"})
"""Installed under this repository's constraints; the others choose what they need beside the pinned torch."""


def environment(name: str, cache: Path) -> Path:
    """The interpreter of a peer's environment, made and filled where it is not yet. Raises CalledProcessError."""
    folder = cache.resolve() / name
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.exists() and done.read_text("utf-8") == repr(PACKAGES[name]):
        return python
    print(f"installing {', '.join(PACKAGES[name])} into {cache / name} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if name != BASE:
        below = site_packages(environment(BASE, cache))
        (site_packages(python) / "base.pth").write_text(f"{below}\n", "utf-8")
    pip(python, name, PACKAGES[name])
    done.write_text(repr(PACKAGES[name]), "utf-8")
    return python


def pip(python: Path, name: str, packages: Sequence[str]) -> None:
    """Install."""
    pins = ["--constraint", str(CONSTRAINTS)] if name in PINNED else []
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins, *packages]
    subprocess.run(command, check=True, env=clean())


def clean() -> dict[str, str]:
    """This process's variables without what would lead another environment to this one's packages."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def site_packages(python: Path) -> Path:
    """Where an environment keeps its packages."""
    said = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True, env=clean(),
    )  # fmt: skip
    return Path(said.stdout.strip())


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Of the installed packages, for the record."""
    names = [package.split("[")[0] for package in packages]
    code = f"from importlib.metadata import version; print(*[version(n) for n in {names!r}])"
    said = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, env=clean())
    return dict(zip(names, said.stdout.split(), strict=True))
