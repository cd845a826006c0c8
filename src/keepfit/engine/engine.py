"""Engine: the seam to whatever runs a compiled network.

What every engine keeps to (`tests/contracts/test_engine.py` holds each to it):

* `infer` may be called from several threads at once.
* Inputs are named arrays that share their first axis (the rows); they are not changed.
* Every output is a fresh float32 array of the same number of rows, owned by the caller; no rows in, no rows out.
* The answer for a row does not depend on the rows beside it, beyond rounding.
* A wrong set of inputs, or a failure of the runtime, raises BackendError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

Arrays = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[np.float32]]


class Engine(Protocol):
    """A compiled network, ready to answer."""

    @property
    def precision(self) -> str:
        """The arithmetic that is really used: fp32, bf16 or int8."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: cpu, cuda, ..."""
        ...

    @property
    def lanes(self) -> int:
        """How many calls may run side by side without waiting for each other."""
        ...

    def infer(self, inputs: Arrays) -> Outputs:
        """The named outputs for the named inputs; see the rules above."""
        ...


def known_precision(name: str) -> Precision:
    """`name`, if it is one; raises BackendError with the choice otherwise."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise BackendError(f"the precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")


def check_inputs(inputs: Arrays, names: tuple[str, ...]) -> int:
    """The number of rows; raises BackendError unless exactly these inputs are there, with one number of rows."""
    if set(inputs) != set(names):
        raise BackendError(f"the network wants the inputs {sorted(names)} and was given {sorted(inputs)}")
    rows = {len(values) for values in inputs.values()}
    if len(rows) != 1:
        raise BackendError(f"the inputs of a network must have the same number of rows, not {sorted(rows)}")
    return rows.pop()
