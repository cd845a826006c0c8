"""keepfit keeps a deployed classifier fit for today's data."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`keepfit.Project`, loaded when it is asked for, so that `import keepfit` stays cheap."""
    if name == "Project":
        return import_module("keepfit.app.project").Project
    raise AttributeError(f"module 'keepfit' has no attribute {name!r}")
