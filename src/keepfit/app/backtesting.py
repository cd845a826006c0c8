"""Backtest, put together from a project: its traffic or a file, embedded by the champion; the command's verb."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.app.embedding import embedder
from keepfit.app.project import Project, check_readable
from keepfit.app.setting_values import duration
from keepfit.app.settings_file import write_triggers
from keepfit.app.spending import valued
from keepfit.data.files import guess_columns, read_rows
from keepfit.data.records import Window, is_withheld
from keepfit.decision import Decision
from keepfit.decision import Outcome as Verb
from keepfit.errors import BackendError, InvalidInput, Refused, SettingsError
from keepfit.pipelines.backtest import picture
from keepfit.pipelines.backtest.matrix import Plan, make
from keepfit.pipelines.backtest.outcome import Backtest, compare
from keepfit.pipelines.backtest.policies import in_toml, policy_of, usual
from keepfit.pipelines.backtest.traffic import Floats, Traffic
from keepfit.pipelines.worth import Worth
from keepfit.telling import Tell, silent

CHUNK = 256
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wanted:
    """What a backtest was asked for."""

    file: Path | None = None
    policies: Sequence[str] = ()
    steps: int = 40
    first: float = 0.2
    label_rate: float | None = None
    label_delay: str = "0s"
    rows: int = 10_000
    """More are thinned evenly; each then stands for more answers."""
    scale: float | None = None
    """Answers that a row stands for; None: 1 for a file, all answers over labelled ones for stored traffic."""
    out: Path | None = None
    write: bool = False
    as_of: datetime | None = None
    """Whose class map names the classes of stored traffic; None: the newest."""


def run(project: Project, asked: Wanted, tell: Tell = silent) -> Backtest:
    """Replay the traffic under each policy; the recommendation is stored as a decision.

    Texts are embedded by the champion; before keepfit has one, by the encoder of the recipe. Raises InvalidInput for
    data that cannot be replayed, SettingsError for a policy that makes no sense; Refused, once the result is stored,
    where it cannot be written into the settings.
    """
    if asked.scale is not None and not 0 < asked.scale < math.inf:
        raise InvalidInput("a row stands for a number of answers above 0", "scale")
    if project.traits.detects:
        raise SettingsError("a backtest is for classifiers of texts; of video there is nothing to replay yet")
    if asked.out is not None and asked.out.suffix.lower() not in (".html", ".png"):
        raise InvalidInput(f"{asked.out.name} must end in .html or .png", "out")
    if asked.file is not None and asked.as_of is not None:
        raise InvalidInput("a file's classes are named as they are in it; --as-of is for stored traffic", "as_of")
    if asked.file is None and asked.label_rate is not None:
        raise InvalidInput("stored traffic is labelled as it is; --label-rate is for a file", "label_rate")
    named = [policy_of(text, project.settings.triggers) for text in asked.policies]
    traffic = of_file(project, asked, tell) if asked.file is not None else of_store(project, asked, tell)
    matrix = make(traffic, plan_of(project, asked), project.home.backtests, lambda done, of: tell("training", done, of))
    now = project.home.clock.now()
    price = Worth(project.model, project.store, valued(project.settings, project.home.settings.costs)).price(now)
    found = compare(
        matrix, price, named or usual(matrix), project.home.settings.timezone,
        lambda done, of: tell("replaying", done, of),
    )  # fmt: skip
    if asked.out is not None:
        picture.write(found, asked.out)
    refused: Refused | BackendError | None = None
    try:
        written = wrote(project, found, asked)
    except (Refused, BackendError) as error:
        refused, written = error, (str(error),)
    verb = Verb.ADVANCE if asked.write and refused is None else Verb.HOLD
    decision = Decision(verb, (*found.because, *written), found.to_json())
    id_ = project.store.add_decision(project.model, "backtest", decision, now)
    if refused is not None:  # what was computed is not lost for it
        raise type(refused)(f"{refused}; the result is kept: keepfit decisions {id_}") from refused
    return found


def plan_of(project: Project, asked: Wanted) -> Plan:
    """How the traffic is cut, as the model's settings hold out and weigh labels. Raises InvalidInput."""
    try:
        delay = duration(asked.label_delay)
    except ValueError as error:
        raise InvalidInput(str(error), "label_delay") from error
    watch = project.settings.watch
    rate = 1.0 if asked.label_rate is None else asked.label_rate
    wait = delay if isinstance(delay, timedelta) else timedelta(0)
    return Plan(asked.steps, asked.first, rate, wait, watch.holdout, watch.recent_share)


def wrote(project: Project, found: Backtest, asked: Wanted) -> tuple[str, ...]:
    """Write the recommended policy into the settings, where that was asked for. Raises Refused."""
    if not asked.write:
        return ()
    if not found.best.policy.writable:
        raise Refused(f"{found.best.policy.name} cannot be written into the settings; name the policies to choose from")
    file = write_triggers(project.folder, project.model, in_toml(found.best.policy))
    return (f"{file.name} now has it as the triggers of {project.model}",)


def of_store(project: Project, asked: Wanted, tell: Tell) -> Traffic:
    """What was answered in life and has a label that measures; embedded anew where not one network gave all."""
    now = project.home.clock.now()
    store, name = project.store, project.model
    pairs = store.labelled(name, Window(LONG_AGO, now + timedelta(seconds=1)), as_of=asked.as_of)
    if not pairs:
        raise InvalidInput(
            f"no answer of {name!r} has an asked or complete label yet; give a file with time, text and label"
        )
    everything = store.count_predictions(name, Window(pairs[0][0].time, pairs[-1][0].time + timedelta(microseconds=1)))
    kept = thinned(len(pairs), asked.rows)
    own = max(everything / len(pairs), 1.0) if asked.scale is None else asked.scale
    scale = own * len(pairs) / len(kept)
    pairs = [pairs[i] for i in kept]
    classes = tuple(sorted({label.value for _, label in pairs}))
    index = {value: i for i, value in enumerate(classes)}
    if len({p.model_version for p, _ in pairs}) == 1 and all(len(p.embedding) for p, _ in pairs):  # one network's
        embeddings = np.stack([prediction.embedding for prediction, _ in pairs])
        names = set.intersection(*(set(prediction.measures) for prediction, _ in pairs)) & {"length", "unknown"}
        measures = {n: np.array([p.measures[n] for p, _ in pairs], np.float32) for n in sorted(names)}
    else:
        contents = [store.prediction(name, prediction.id)[0].content for prediction, _ in pairs]
        if any(is_withheld(content) for content in contents):
            raise InvalidInput(
                f"the texts of {name!r} were not kept [keep.texts], so answers of several versions cannot be compared; "
                "give a file with time, text and label"
            )
        embeddings, measures = embedded(project, contents, tell)
    truth = np.array([index[label.value] for _, label in pairs], np.int64)
    return Traffic(tuple(p.time for p, _ in pairs), embeddings, truth, classes, measures, scale)


def of_file(project: Project, asked: Wanted, tell: Tell) -> Traffic:
    """A table with time, text and label; rows that cannot be read are left out. Raises InvalidInput."""
    file = asked.file
    if file is None:
        raise ValueError("there is no file")
    check_readable(file)
    columns = guess_columns(file, project.columns())
    if columns.time is None:
        raise InvalidInput(
            f"{file.name} has no column with the time of each row; name it in [models.{project.model}.columns]: time",
            "time",
        )
    rows = [
        (row.time, row.content, row.label)
        for row in read_rows(file, columns)
        if row.time is not None and row.content is not None and row.label is not None
    ]
    if not rows:
        raise InvalidInput(
            f"no row of {file.name} has a time, a text and a label; times are written like 2026-03-01T12:00"
        )
    rows.sort(key=lambda row: row[0])
    kept = thinned(len(rows), asked.rows)
    scale = (1.0 if asked.scale is None else asked.scale) * len(rows) / len(kept)
    rows = [rows[i] for i in kept]
    classes = tuple(sorted({label for _, _, label in rows}))
    index = {value: i for i, value in enumerate(classes)}
    truth = np.array([index[label] for _, _, label in rows], np.int64)
    embeddings, measures = embedded(project, [content for _, content, _ in rows], tell)
    return Traffic(tuple(moment for moment, _, _ in rows), embeddings, truth, classes, measures, scale)


def embedded(project: Project, contents: Sequence[Any], tell: Tell) -> tuple[Floats, dict[str, Floats]]:
    """Embeddings, shape (n, d), and measures of the inputs, each of shape (n,): the champion's, else the encoder's."""
    embed = embedder(project, len(contents[0]) if isinstance(contents[0], tuple) else 1)
    found = []
    for at in range(0, len(contents), CHUNK):
        found.append(embed(contents[at : at + CHUNK]))
        tell("embedding", min(at + CHUNK, len(contents)), len(contents))
    names = set.intersection(*(set(measures) for _, measures in found))
    columns = {name: np.concatenate([measures[name] for _, measures in found]) for name in sorted(names)}
    return np.concatenate([embeddings for embeddings, _ in found]), columns


def thinned(n: int, most: int) -> list[int]:
    """Places of at most so many of n rows, evenly."""
    places: list[int] = np.linspace(0, n - 1, min(n, most)).astype(int).tolist()
    return places
