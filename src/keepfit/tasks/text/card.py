"""The model's card: what it was made from and how, for people, beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keepfit.intervals import paired_interval
from keepfit.tasks.trade import Point, Terms, Trade, accept


def card(settings: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Markdown from the values of model.json; `counts` are the rows of each part."""
    training, recipe, acceptance = settings["training"], settings["recipe"], settings["acceptance"]
    sections = [
        f"# Text classifier: {_classes(settings['labels'])}",
        "## Made from\n\n" + listed(_origin(settings, counts)),
        "## Trained\n\n" + listed(_training(training, recipe, settings)),
        "## Answers\n\n" + listed(_answers(settings, acceptance)),
    ]
    if acceptance["comparisons"]:
        sections.append(
            "Each arithmetic beside fp32:\n\n" + table([_row(c, acceptance) for c in acceptance["comparisons"]])
        )
    sections += _first(settings.get("first"))
    sections.append("## Recipe\n\n" + table([{"setting": name, "value": str(value)} for name, value in recipe.items()]))
    return "\n\n".join(sections) + "\n"


def _classes(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 8 else f"{len(labels)} classes"


def _origin(settings: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    return [
        f"snapshot {settings['snapshot']}: " + ", ".join(f"{n} rows to {part}" for part, n in counts.items()),
        f"columns: {', '.join(settings['columns'])}",
        f"backbone: {settings['backbone']}, {settings['pooling']} pooling, {settings['embedding_dim']} wide",
    ]


def _training(training: Mapping[str, Any], recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    precision = training["precision"]
    timed = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in precision["seconds"].items())
    return [
        f"{training['steps']} steps of {recipe['batch_size']} rows, {training['passes']:g} passes; the weights of step "
        f"{training['best_step']} were kept (validation loss {training['validation_loss']:.4f})",
        f"up to {settings['max_tokens']} tokens, {settings['truncation']}",
        f"arithmetic: {precision['chosen']} on {precision['device']}"
        + (f" (measured per step: {timed})" if timed else ""),
        f"{training['seconds']:.0f} seconds, {training['cpu_seconds']:.0f} of processor time",
        *_parts(training, recipe),
    ]


def _parts(training: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    """What of the network did not learn, or was computed twice."""
    said, frozen = [], training.get("frozen")
    if training.get("memory_saved"):
        said.append("parts of each step were computed twice, since it did not fit into the memory otherwise")
    if frozen is not None:
        said.append(
            "the lowest {layers} layers did not learn; what they give ({arithmetic}) was computed for {kept} texts and "
            "found on the disk {found} times; {no_room} times there was no room for it".format(**frozen)
        )
    if recipe.get("lora_rank"):
        said.append(f"adapters of rank {recipe['lora_rank']} and the head learnt; the adapters are in the weights now")
    return said


def _answers(settings: Mapping[str, Any], acceptance: Mapping[str, Any]) -> list[str]:
    below = settings["abstain_below"]
    return [
        f"arithmetic: {acceptance['chosen']}",
        f"accuracy of fp32 on the validation part: {acceptance['reference_accuracy']:.4f}",
        f"temperature: {settings['temperature']:g}, fitted on the validation part",
        "always answers" if below is None else f"abstains when its top score is below {below:g}",
    ]


def _row(comparison: Mapping[str, Any], acceptance: Mapping[str, Any]) -> dict[str, str]:
    c = comparison
    return {
        "arithmetic": c["precision"],
        "accuracy": "{difference:+.2%} ({low:+.2%} to {high:+.2%}, n = {n})".format(**c),
        "same label": f"{c['agreement']:.2%} of {c['texts']}",
        "expected loss": f"{c['expected_loss']:.2%} at most",
        "taken": "yes" if c["precision"] == acceptance["chosen"] else "no",
        "because": c["because"],
    }


def _first(first: Mapping[str, Any] | None) -> list[str]:
    """What a cascade would give: a sentence for either kind of terms, and the curve that they are judged by."""
    if first is None:
        return []
    trade = Trade.from_json(first["trade"])
    lines = [
        f"learnt from {first['rows']} rows in {first['seconds']:g} s, {first['buckets']} words and pairs of words;"
        f" alone it has an accuracy of {trade.first_right / max(trade.n, 1):.4f} on {trade.n} held-out rows"
    ]
    for keeps in ("accuracy", "agreement"):
        found = accept(trade, Terms(keeps))
        words = found.because if found.threshold is not None else f"it would answer nothing: {found.because}"
        lines.append(f'with cascade.keeps = "{keeps}" (off by default) {words}')
    curve = [table([_point(trade, point) for point in trade.points])] if trade.points else []
    return ["## First stage\n\n" + listed(lines), *curve]


def _point(trade: Trade, point: Point) -> dict[str, str]:
    difference = paired_interval(point.wins, point.losses, trade.n)
    return {
        "answered by it": f"{trade.coverage(point):.1%}",
        "from a score of": f"{point.threshold:.4f}",
        "accuracy of both": f"{trade.accuracy(point):.4f}",
        "beside the full model": f"{difference.value:+.2%} ({difference.low:+.2%} to {difference.high:+.2%})",
        "better / worse": f"{point.wins} / {point.losses}",
        "other answers": f"{point.differing / max(trade.n, 1):.2%}",
    }


def listed(lines: Sequence[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table in Markdown; every row has the same columns."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row[name] for name in names) + " |" for row in rows])
