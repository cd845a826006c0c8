"""Engines: running a compiled network.

Importing openvino or nncf sends an event to their makers unless the package `openvino_telemetry` is absent; so it is
made absent here, before anything in this room imports them (both then use their own stubs).
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
