"""The command line: each command translates to one verb of `Project`, and prints for people or as JSON."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfit import __version__
from keepfit.app import processes, show, show_models
from keepfit.app.alarms import Alarms, Said, Tell
from keepfit.app.changing import moment
from keepfit.app.commands import (
    audit,
    backtest,
    backup,
    classes,
    compress,
    costs,
    diff,
    exporting,
    import_history,
    importing,
    lineage,
    retention,
    trust,
)
from keepfit.app.commands import tokens as token_commands
from keepfit.app.commands import tune as tune_commands
from keepfit.app.commands.options import DECISIONS, HERE, VERSIONS, JsonOption, ModelOption, ProjectOption
from keepfit.app.lineage import reasons_of
from keepfit.app.logs import write_logs
from keepfit.app.narration import Narrator
from keepfit.app.progress import batch_progress, training_progress
from keepfit.app.project import Project
from keepfit.app.readers import nobody_listens, survive_readers
from keepfit.app.wiring import LATE, named
from keepfit.app.worker import calm_down
from keepfit.decision import Outcome
from keepfit.errors import InvalidInput, KeepfitError, NotFound, Refused, SettingsError
from keepfit.redaction import guard_logs
from keepfit.rollout.rollout import standing

RETRAINING_WANTED = 10
INTERRUPTED = 130

cli = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="keepfit keeps a deployed classifier fit for today's data.",
)

HostOption = Annotated[str | None, typer.Option("--host", help="Address to listen on; overrides the settings.")]
PortOption = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; overrides the settings.")
]
StartOption = Annotated[
    str | None,
    typer.Option(help="new; warm, from the champion's weights; of video recalibrate, with its networks; steps."),
]
EXAMPLES = {"text": "DATA.csv", "video": "VIDEO.mp4"}
"""The tasks that `init` writes settings for, with what each is trained on."""


def version(wanted: bool) -> None:
    """`keepfit --version`."""
    if wanted:
        print(__version__)
        raise typer.Exit


@cli.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """keepfit keeps a deployed classifier fit for today's data."""


@cli.command()
def init(
    folder: Annotated[Path | None, typer.Argument(help="Where; the project folder unless given.")] = None,
    task: Annotated[str, typer.Option(help="The kind of problem: text or video.")] = "text",
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Write a commented keepfit.toml."""
    if task not in EXAMPLES:
        raise SettingsError(f"there is no task {task!r}; use --task {' or --task '.join(EXAMPLES)}")
    file = Project.init(folder or project, task)
    words = f"{file} is written. Next: keepfit train {EXAMPLES[task]}, then keepfit up."
    show.result({"settings": str(file)}, json, words)


@cli.command()
def train(
    data: Annotated[Path, typer.Argument(help="A labelled CSV, TSV, JSONL or Parquet file; a video, or a folder.")],
    labels: Annotated[
        Path | None, typer.Argument(help="Of videos: a CSV with video, start, end (seconds) and label (1 or 0).")
    ] = None,
    tune: Annotated[
        int | None, typer.Option(min=1, help="Try so many recipes first, the one as set among them; use the best.")
    ] = None,
    search: tune_commands.SearchOption = None,
    tune_minutes: tune_commands.MinutesOption = None,
    tune_money: tune_commands.MoneyOption = None,
    pruner: tune_commands.PrunerOption = None,
    cv: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate the recipe first, in so many folds; the gate heeds them.")
    ] = None,
    cv_kind: Annotated[
        str | None, typer.Option(help="With --cv: grouped (unless given), or time: later rows after all earlier ones.")
    ] = None,
    start: StartOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Train a version from labelled data or from video; the first that passes its own floors becomes champion."""
    heeded = {"--search": search, "--tune-minutes": tune_minutes, "--tune-money": tune_money, "--pruner": pruner}
    tune_commands.refuse_without_tune(tune, heeded)
    if cv is None and cv_kind is not None:
        raise SettingsError("--cv-kind needs --cv K, the number of folds")
    home = Project(project, model)
    home.starting(start)  # what cannot be is said before the data is read
    limits = (search or "tpe", tune_minutes or 0.0, pruner or "median", tune_money or 0.0)
    wanted = None if tune is None else home.search(tune, *limits)
    folds = None if cv is None else home.folds(cv, cv_kind or "grouped")
    snapshot, report = home.import_data(data, labels)
    if not json:
        show.text(report.as_text())
    if (wanted or folds) is not None and home.worker_runs():  # answering goes first here, too
        calm_down(home.home.settings.worker.niceness, home.home.settings.worker.threads)
    with training_progress(json) as progress:
        result = home.train(data, progress, snapshot, wanted, start, folds)
    if wanted is not None and not json:
        show.tuning(result["tuning"], home.model)
    if folds is not None and not json:
        show.cross_validation(result["cross_validation"])
    show.result(dict(result), json, show.trained(result))


@cli.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """The champion's numbers on a labelled file."""
    result = Project(project, model).evaluate(data)
    show.result(dict(result), json, show.evaluation(result))


@cli.command()
def gate(
    data: Annotated[Path, typer.Argument(help="A labelled file that neither version has seen.")],
    candidate: Annotated[
        int | None, typer.Option(min=1, help="The candidate; the newest version unless given.", autocompletion=VERSIONS)
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """The newest version against the champion; exit code 1 when it must not pass."""
    decision = Project(project, model).gate(data, candidate)
    show.decision(decision, json)
    raise typer.Exit(0 if decision.outcome is Outcome.PASS else 1)


def refuse_unused(command: str, model: str | None, json: bool) -> None:
    """Processes are for every model and print no result. Raises SettingsError rather than pass over an option."""
    if model is not None:
        raise SettingsError(f"keepfit {command} is for every model of the project; leave --model out")
    if json:
        raise SettingsError(f"keepfit {command} prints no result; leave --json out (keepfit status --json has one)")


@cli.command()
def up(
    host: HostOption = None, port: PortOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Start the server and the worker, and mind them until Ctrl-C."""
    refuse_unused("up", model, json)
    if Project(project, model).worker_runs():
        raise Refused(
            "this project is up already: a worker runs for it; stop that first, or start a server alone: serve"
        )
    raise typer.Exit(processes.up(project, host, port))


@cli.command()
def serve(
    host: HostOption = None, port: PortOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """The HTTP server alone."""
    refuse_unused("serve", model, json)
    named(LATE["serve"])(project, host, port)


@cli.command()
def worker(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """The watcher and the job queue alone."""
    refuse_unused("worker", model, json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    home = Project(project, model)
    write_logs(home.home.settings.log.format)
    with home.working(Narrator(home.store)) as working:
        show.text("keepfit worker: watching; Ctrl-C stops it")
        working.run(stop)
    home.close()
    processes.end_without(threading.enumerate())


@cli.command()
def batch(
    source: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet, plain or .gz; a video, or a folder.")],
    target: Annotated[Path, typer.Argument(help="The output; its suffix names the kind. Of videos: a folder.")],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Score a file; killed and started again it goes on."""
    with batch_progress(json) as progress:
        report = Project(project, model).batch(source, target, progress)
    result = {"output": str(target), "rows": report.rows, "errors": report.errors}
    result |= {name: getattr(report, name) for name in ("frames", "alarms") if hasattr(report, name)}
    kind = "videos" if "frames" in result else "rows"
    show.result(result, json, f"{report.rows} {kind} written to {target}, {report.errors} of them with an error.")


def until_nobody_listens(tell: Tell) -> Tell:
    """The same, but ended like by Ctrl-C where `head` has read enough: a camera has no end of its own."""

    def told(said: Said) -> None:
        tell(said)
        if nobody_listens():
            raise KeyboardInterrupt

    return told


@cli.command()
def stream(
    address: Annotated[str, typer.Argument(help="rtsp://CAMERA/PATH or http(s)://..., or a video file to play.")],
    key: Annotated[str | None, typer.Option(help="The camera's name; a new one for each call unless given.")] = None,
    url: Annotated[str | None, typer.Option(help="The server; the project's own unless given.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="KEEPFIT_TOKEN", help="A token of the role predict, where the server asks.")
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Send a camera's frames to the running server until Ctrl-C; prints alarms, with --json every frame."""
    alarms = Alarms(partial(print, flush=True))
    with contextlib.suppress(KeyboardInterrupt):
        tell = until_nobody_listens((lambda said: print(dumps(asdict(said)), flush=True)) if json else alarms)
        named(LATE["stream"])(Project(project, model), address, key, (url, token), tell, show.text)
    if not json:
        show.text(f"{alarms.frames} frames were answered, {alarms.count} alarms.")


@cli.command()
def label(
    file: Annotated[
        Path, typer.Argument(help="Columns: label, and prediction_id, id or the text; or Label Studio's JSON.")
    ],
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Labels may be of classes that the model does not know yet.")
    ] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Store labels that came later."""
    done = Project(project, model).label(file, new_classes)
    words = f"{done['new']} new labels of {done['read']} read; {done['unknown']} rows match no prediction."
    if "cancelled" in done:
        words += f" {done['cancelled']} annotations were cancelled, {done['unlabelled']} tasks have no label."
    show.result(dict(done), json, words)


labels = typer.Typer(help="The label queue.", no_args_is_help=True)
cli.add_typer(labels, name="labels")
trust.register(labels)
exporting.register(labels)


@labels.command("next")
def labels_next(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """What to label next, drawn at random."""
    show.queue(Project(project, model).labels_next(limit), json)


@cli.command()
def check(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """Measure and ask the triggers once; exit 0: nothing to do, 10: retraining wanted."""
    home = Project(project, model)
    decision = home.check()
    show.decision(decision, json, home.warnings())
    raise typer.Exit(RETRAINING_WANTED if decision.outcome is Outcome.FIRE else 0)


@cli.command()
def retrain(
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is done.")] = False,
    start: StartOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Retrain now; without a running worker in this process."""
    home = Project(project, model)
    if not home.worker_runs() and not json:
        show.text("No worker runs for this project, so the retraining runs here.")
    with training_progress(json) as progress:
        result = home.retrain(wait, progress, start)
    show.result(dict(result), json, show.trained(result))


@cli.command()
def rollback(
    to: Annotated[
        int | None,
        typer.Option(help="A version that served before; the last one unless given.", autocompletion=VERSIONS),
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Back to the last version that really served; again: further back."""
    done = Project(project, model).rollback(to)
    show.result(show.deployment_json(done), json, f"{done.reason[0].upper()}{done.reason[1:]}.")


@cli.command()
def promote(
    number: Annotated[int, typer.Argument(help="The version.", autocompletion=VERSIONS)],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Serve a registered version now, on your word."""
    verdict = Project(project, model).promote(number)
    failed = verdict is not None and verdict.outcome is Outcome.FAIL
    gate = f" Its gate had refused it: {verdict.because[0]}." if verdict is not None and failed else ""
    words = (
        f"Version {number} is deployed on your word, and no rollout watches it.{gate} To undo this: keepfit rollback"
    )
    show.result({"version": number}, json, words)


@cli.command()
def approve(
    number: Annotated[int, typer.Argument(help="The version that waits.", autocompletion=VERSIONS)],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Let a version go on that waits for a person: into its rollout, or to all the traffic."""
    home = Project(project, model)
    home.approve(number)
    now = standing(home.store, home.model)
    fate = "is deployed" if now is None or now["share"] >= 1 else f"is being rolled out ({show_models.rolling(now)})"
    show.result({"version": number}, json, f"Version {number} {fate}. To undo this: keepfit rollback")


@cli.command()
def status(
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy over time into this file: .png, .svg or .pdf.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Draw the accuracy on labels by the class map of this moment.")
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """What is live, how accurate it is, and what the last check said; of every model unless one is named."""
    at, home = moment(as_of, "as-of"), Project(project, model)
    if at is not None and plot is None:
        raise InvalidInput("--as-of is for --plot; what is live is counted by the newest class map", "as-of")
    show_models.status(home, json, whole=model is None and len(home.home.settings.models) > 1 and plot is None)
    if plot is not None:
        checks = home.draw_accuracy(plot, at)
        if not json:
            show.text(f"{checks} checks are drawn in {plot}.")


@cli.command()
def history(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """Every deployment, newest first: who, when, why, on what evidence, by which decision."""
    home = Project(project, model)
    rows = home.history()
    show.history(rows, json, reasons_of(home.store, rows))


@cli.command()
def live(
    at: Annotated[str | None, typer.Option("--at", help="A moment such as 2026-03-01T12:00; now unless given.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """What was live at a moment."""
    given = moment(at, "at")
    home = Project(project, model)
    when = given or home.home.clock.now()
    found = home.live(when)
    if found is None:
        raise NotFound(f"nothing was live at {when.isoformat()}")
    show.history([found], json, reasons_of(home.store, [found]))


@cli.command()
def decisions(
    id: Annotated[
        str | None,
        typer.Argument(help="One decision, by its id or how that begins; newest.", autocompletion=DECISIONS),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    plot: Annotated[Path | None, typer.Option(help="Draw the evidence of one into this file (png, svg, pdf).")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Every judgement with its reasons, newest first; of one also its evidence, as numbers or as a picture."""
    home = Project(project, model)
    if id is None and plot is None:
        show.decisions(home.decisions(limit), json)
        return
    show.judgement(home.decision(id), None if plot is None else home.picture(id, plot), json)


@cli.command()
def models(
    reproduce: Annotated[
        int | None, typer.Option(help="Train this version again and compare.", autocompletion=VERSIONS)
    ] = None,
    pin: Annotated[int | None, typer.Option(help="Keep its files, whatever the limits of retention.")] = None,
    unpin: Annotated[int | None, typer.Option(help="Let the limits of retention rule over this version again.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Every version with its numbers and its verdict; of every model unless one is named."""
    home = Project(project, model)
    if pin is not None or unpin is not None:
        if reproduce is not None:
            raise SettingsError("give either --reproduce or a pin")
        retention.pins(home, pin, unpin, json)
        return
    if reproduce is None:
        show_models.versions(home, json, whole=model is None and len(home.home.settings.models) > 1)
        return
    with training_progress(json) as progress:
        result = home.reproduce(reproduce, progress)
    words = "gives the same numbers" if result["same"] else "differs: " + "; ".join(result["differences"])
    show.result(dict(result), json, f"Version {reproduce} trained again {words}.")
    raise typer.Exit(0 if result["same"] else 1)


token_commands.register(cli)
tune_commands.register(cli)
classes.register(cli)


@cli.command()
def demo(
    task: Annotated[str, typer.Option(help="Whose demo: text or video.")] = "text",
    data: Annotated[
        Path | None, typer.Option(help="A labelled file instead of the reviews; a video instead of the plaza.")
    ] = None,
    drift: Annotated[Path | None, typer.Option(help="A labelled file that the world changes to; of text only.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the report goes; demo or demo-video unless given.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """The whole loop in six minutes: train, serve, drift, alarm, retrain, gate, swap, recover.

    Of video: learn one camera's normal life, find what does not belong to it, answer a clip.
    """
    if task not in EXAMPLES:
        raise SettingsError(f"there is no demo of the task {task!r}; use --task {' or --task '.join(EXAMPLES)}")
    if task == "video" and drift is not None:
        raise SettingsError("--drift is for the demo of text, whose world changes; leave it out with --task video")
    if task == "video":
        result = named("keepfit.app.demo.video_story:run")(out or Path("demo-video"), data, json)
    else:
        result = named("keepfit.app.demo.story:run")(out or Path("demo"), data, drift, json)
    raise typer.Exit(0 if result["ok"] else 1)


@cli.command()
def doctor(
    send_test: Annotated[bool, typer.Option("--send-test", help="Send a test alert.")] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Say what is missing; exit 0: nothing is, 1: something is."""
    findings = named("keepfit.app.doctor:examine")(project, send_test)
    show.findings(findings, json)
    raise typer.Exit(0 if all(f.ok for f in findings) else 1)


for module in (audit, backtest, backup, compress, costs, diff, import_history, importing, lineage, retention):
    module.register(cli)


def main() -> None:
    """The command: errors that keepfit raises on purpose become one sentence and exit code 2, never a stack trace."""
    survive_readers()
    guard_logs()
    try:
        run(lambda: cli(standalone_mode=True), "--json" in sys.argv)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            processes.end_without(threading.enumerate(), INTERRUPTED)
        raise


def run(command: Callable[[], Any], json: bool) -> None:
    """Run a command and translate its errors."""
    try:
        command()
    except KeepfitError as error:
        show.error(error, json)
        sys.exit(processes.REFUSED)
    except Exception as problem:
        show.unexpected(problem)
        sys.exit(processes.FAULT)
    except KeyboardInterrupt:
        show.text("Stopped; what was finished is kept, and the same command goes on from there.")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
