"""OpenVinoEngine: runs an OpenVINO network on the CPU."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
import openvino as ov

from keepfit.engine.engine import Arrays, Outputs, Precision, check_inputs, known_precision
from keepfit.errors import BackendError

log = logging.getLogger(__name__)

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO is told to compute in; left unsaid it takes bf16 by itself where the CPU has it.

int8 networks keep their unquantised parts in f32: bf16 there made 16x256 tokens 8 % faster and shorter texts not at
all, and a text's probabilities moved more with the company it was in.
"""


FAILED = "the network failed to answer"


class OpenVinoEngine:
    """A compiled network, whose pools of requests callers share; who finds none idle waits for one.

    With lanes it is compiled twice: a call that comes alone gets all threads, calls side by side get one each. Two
    threads on one call wait for each other at each of its layers, and for whatever else has taken the core of one.
    """

    def __init__(self, wide: ov.CompiledModel, precision: Precision, narrow: ov.CompiledModel | None = None) -> None:
        """Both must have been compiled with a stated precision: use `load`."""
        self._precision = precision
        self._inputs = tuple(port.any_name for port in wide.inputs)
        self._outputs = tuple(port.any_name for port in wide.outputs)
        self._wide = idle_requests(wide)
        self._narrow = self._wide if narrow is None else idle_requests(narrow)
        self.lanes = self._narrow.qsize()
        self._running = 0
        self._counting = threading.Lock()

    @classmethod
    def load(cls, xml: Path, precision: str, threads: int | None = None, lanes: int = 1) -> OpenVinoEngine:
        """Read and compile the network in `xml` and the `.bin` beside it.

        `threads`: CPU threads for all calls together, None for as many as this process may use. `lanes`: how many
        calls may run side by side, on one thread each; no more than there are threads. Several take about twice the
        memory of one.
        bf16 on a CPU that lacks it runs as fp32, says so in the log and in `precision`.
        Raises BackendError when a file is missing or damaged, or the precision is unknown.
        """
        used = known_precision(precision)
        if used == "bf16" and not has_bf16():
            log.warning("this CPU has no bf16 arithmetic: %s runs as fp32", xml)
            used = "fp32"
        threads = threads or usable_cpus()
        lanes = min(lanes, threads)
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": HINTS[used],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads of a server and a worker would fight for the same core.
            "ENABLE_CPU_PINNING": False,
        }
        with _failures(f"the network {xml} cannot be loaded", "fetch or register the model again"):
            for file in (xml, xml.with_suffix(".bin")):
                if not file.is_file() or not file.stat().st_size:
                    raise RuntimeError(f"{file.name} is missing or empty")
            core = ov.Core()
            # Its weights would otherwise be mapped from a file that may be replaced or deleted under a running server.
            network = core.read_model(xml, config={"ENABLE_MMAP": False})
            wide = core.compile_model(network, "CPU", options)
            if lanes == 1:
                return cls(wide, used)
            options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": lanes}
            return cls(wide, used, core.compile_model(network, "CPU", options))

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def device(self) -> str:
        return "cpu"

    def infer(self, inputs: Arrays) -> Outputs:
        """See Engine."""
        if check_inputs(inputs, self._inputs) == 0:
            return {name: values[:0] for name, values in self.infer(_one_row(inputs)).items()}
        with self._request() as request, _failures(FAILED, "look at the log, and load another version"):
            request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            return {name: np.array(request.get_tensor(name).data, np.float32) for name in self._outputs}

    @contextmanager
    def _request(self) -> Iterator[ov.InferRequest]:
        """One that is idle: of all threads where no other call is running, else of one."""
        with self._counting:
            pool = self._narrow if self._running else self._wide
            self._running += 1
        request = pool.get()
        try:
            yield request
        finally:
            pool.put(request)
            with self._counting:
                self._running -= 1


def idle_requests(compiled: ov.CompiledModel) -> LifoQueue[ov.InferRequest]:
    """As many as may run side by side."""
    idle: LifoQueue[ov.InferRequest] = LifoQueue()
    for _ in range(int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))):
        idle.put(compiled.create_infer_request())
    return idle


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 by itself."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def usable_cpus() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_row(inputs: Arrays) -> Arrays:
    return {name: np.ones((1, *(max(size, 1) for size in v.shape[1:])), v.dtype) for name, v in inputs.items()}


@contextmanager
def _failures(what: str, next_step: str) -> Iterator[None]:
    """OpenVINO raises bare RuntimeError for everything; its first line is the useful one."""
    try:
        yield
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise BackendError(f"{what} ({lines[-1].strip()}); {next_step}") from error
