"""Versions of the toy task that do harm once they serve: slow ones, crashing ones, ones that answer with no number."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from keepfit.tasks import toy
from keepfit.tasks.task import Output, Prepared

SLOW_S = 0.25


class Bad(toy.ToyModel):
    """Well while it is warmed up, so that it gets as far as the users."""

    calls = 0

    def infer(self, prepared: Prepared) -> Output:
        output = super().infer(prepared)
        self.calls += 1
        return output if self.calls == 1 else self.harm(output)

    def harm(self, output: Output) -> Output:
        raise NotImplementedError


class Slow(Bad):
    def harm(self, output: Output) -> Output:
        time.sleep(SLOW_S)
        return output


class Crash(Bad):
    def harm(self, output: Output) -> Output:
        raise RuntimeError("out of cheese")


class Nan(Bad):
    def harm(self, output: Output) -> Output:
        return Output(np.full_like(output.scores, np.nan), output.embeddings)


def made(kind: type[Bad], folder: Path) -> Bad:
    good = toy.load(folder)
    return kind(good.labels, good._table, good._shares)


def slow(folder: Path, precision: str | None = None, threads: int | None = None) -> Bad:
    return made(Slow, folder)


def crash(folder: Path, precision: str | None = None, threads: int | None = None) -> Bad:
    return made(Crash, folder)


def nan(folder: Path, precision: str | None = None, threads: int | None = None) -> Bad:
    return made(Nan, folder)
