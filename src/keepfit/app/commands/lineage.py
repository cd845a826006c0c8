"""`keepfit lineage`: where an answer comes from, or which answers came from a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project
from keepfit.errors import SettingsError

PAGE = 1000


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(lineage)


def lineage(
    prediction: Annotated[str | None, typer.Argument(help="The id of an answer.")] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="The id of a snapshot, or its beginning: what was made from it?")
    ] = None,
    list_ids: Annotated[
        bool, typer.Option("--list", help="With --snapshot: the ids of the answers, a page of them.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help=f"With --list: ids in a page; {PAGE} unless given.")] = None,
    after: Annotated[str | None, typer.Option(help="With --list: the last id of the page before.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From an answer to its version, run, data, gate, deployment and labels; or from a snapshot to its answers."""
    if (prediction is None) == (snapshot is None):
        raise SettingsError("give either the id of an answer, or --snapshot ID")
    if list_ids and snapshot is None:
        raise SettingsError("--list goes with --snapshot ID")
    if not list_ids and (limit is not None or after is not None):
        raise SettingsError("--limit and --after go with --list")
    home = Project(project, model)
    if prediction is not None:
        found = home.lineage(prediction)
        show.result(found, json, answer_in_words(found))
        return
    found = home.made_from(str(snapshot))
    if not list_ids:
        show.result(found, json, snapshot_in_words(found))
        return
    versions = [version["version"] for version in found["versions"] if version["direct"]]
    ids = home.store.prediction_ids(home.model, versions, limit or PAGE, after)
    more = ids[-1] if len(ids) == (limit or PAGE) else None
    show.result({"predictions": ids, "after": more}, json, "\n".join(ids) or "No answers, or no more of them.")
    if more is not None and not json:
        show.text(f"The next page: --after {more}")


def answer_in_words(found: Mapping[str, Any]) -> str:
    """An answer's lineage for people."""
    said, version, deployment = found["prediction"], found["version"], found["deployment"]
    shadow = ", in the shadow" if said["shadow"] else ""
    lines = [
        f"{said['id']}: {said['label']} ({said['score']:.3f}) at {show.moment(said['time'])} UTC{shadow}",
        f"  example     {said['example_id']}",
        f"  request     {said['request'] or 'not kept'}",
        f"  version     {version['version']}, made because: {version['reason'] or 'unknown'}",
        f"  run, job    {version['run'] or 'unknown'}, {version['job'] or 'unknown'}",
        f"  snapshot    {version['snapshot'] or 'unknown'}",
        f"  parent      {'none' if version['parent'] is None else 'version ' + str(version['parent'])}",
        f"  code        {version['code'] or 'unknown'}",
    ]
    if (gate := version["gate"]) is not None:
        lines.append(f"  gate        {gate['outcome']} ({gate['id']}): {'; '.join(gate['because'][:1])}")
    if deployment is None:
        lines.append("  deployment  none of that time names this version")
    else:
        when = show.moment(deployment["at"])
        lines.append(f"  deployment  {deployment['id']} of {when} UTC by {deployment['actor']}: {deployment['reason']}")
    for label in found["labels"]:
        which = "" if label["named_this_answer"] else ", for the example"
        when = show.moment(label["time"])
        lines.append(f"  label       {label['value']} at {when} UTC by {label['actor']} ({label['source']}{which})")
    return "\n".join(lines if found["labels"] else [*lines, "  label       none yet"])


def snapshot_in_words(found: Mapping[str, Any]) -> str:
    """What was made from a snapshot, for people."""
    lines = [f"Snapshot {found['snapshot']}" + ("" if found["stored"] else ", which is no longer kept") + ":"]
    for version in found["versions"]:
        grown = "" if version["direct"] else f" (through snapshot {version['snapshot'][:12]}, which was grown from it)"
        count = version["predictions"]
        time = f", {show.moment(version['first'])} to {show.moment(version['last'])} UTC" if count else ""
        shadow = f", {version['shadow']} of them in the shadow" if version["shadow"] else ""
        lines.append(f"  version {version['version']}{grown}: {count} answers{time}{shadow}")
    return "\n".join(lines if found["versions"] else [*lines, "  no version was made from it"])
