"""Arrays in JSON, bit for bit: a detector that wakes from the store goes on as if it had never slept."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(array: NDArray[np.float64]) -> dict[str, Any]:
    """Shape and bytes (little-endian doubles, base64)."""
    return {"shape": list(array.shape), "f8": base64.b64encode(np.asarray(array, "<f8").tobytes()).decode("ascii")}


def unpacked(plain: Mapping[str, Any]) -> NDArray[np.float64]:
    """What `packed` gave, writable. Raises ValueError when the bytes do not fit the shape."""
    found = np.frombuffer(base64.b64decode(plain["f8"]), "<f8").reshape([int(n) for n in plain["shape"]])
    return np.array(found, np.float64)
