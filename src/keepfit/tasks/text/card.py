"""The model's card: what it was made from and how, for people, beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def card(settings: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Markdown from the values of model.json; `counts` are the rows of each part."""
    training, recipe, acceptance = settings["training"], settings["recipe"], settings["acceptance"]
    sections = [
        f"# Text classifier: {_classes(settings['labels'])}",
        "## Made from\n\n" + _listed(_origin(settings, counts)),
        "## Trained\n\n" + _listed(_training(training, recipe, settings)),
        "## Answers\n\n" + _listed(_answers(settings, acceptance)),
    ]
    if acceptance["comparisons"]:
        sections.append(
            "Each arithmetic beside fp32:\n\n" + _table([_row(c, acceptance) for c in acceptance["comparisons"]])
        )
    sections.append(
        "## Recipe\n\n" + _table([{"setting": name, "value": str(value)} for name, value in recipe.items()])
    )
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


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row[name] for name in names) + " |" for row in rows])
