"""The card of a video model: what it is, what it was judged on, and what the numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(values: Mapping[str, Any]) -> str:
    """Markdown from the values of model.json."""
    head, denoiser = values["head"], values["denoiser"]
    lines = [
        "# Video model",
        "",
        f"- Denoiser: {denoiser['steps']:,} steps, {denoiser['seconds'] / 60:.1f} minutes, validation loss "
        f"{denoiser['validation_loss']:.4f}; {len(denoiser['dropped'])} windows left out as suspicious.",
        f"- Error maps: {', '.join(values['levels'])}; answered in {values['precision']}.",
        f"- Head: {head['kind']}" + (f" ({head['because']})" if "because" in head else "") + ".",
        *_areas(head),
        *(_threshold(name, said["threshold"]) for name, said in values["cameras"].items()),
        *(_still(name, said["still_levels"]) for name, said in values["cameras"].items()),
        "",
        "The numbers of one camera say nothing about another. Areas on synthetic events are no areas on real "
        "ones. What happened in the part that was learnt from counts as normal.",
        "",
    ]
    return "\n".join(lines)


def _threshold(camera: str, threshold: Mapping[str, Any]) -> str:
    of_it, budget = f" of camera {camera}" if camera else "", threshold["alarms_per_day"]
    return f"- Threshold{of_it} {threshold['enter']:.3f} for {budget:g} alarms a day: {threshold['note']}."


def _still(camera: str, levels: float) -> str:
    of_it = f" of camera {camera}" if camera else ""
    if not levels:
        return f"- Every place{of_it} is judged, also where nothing is."
    return (
        f"- Places{of_it} that differ from the empty scene by less than {levels:g} grey levels of 256 are not judged."
    )


def _areas(head: Mapping[str, Any]) -> list[str]:
    if "left_out" not in head:
        return []
    unseen, plain = head["left_out"], head["plain"]
    return [
        f"- Area under the curve on synthetic families that the head had not seen: mean {unseen['mean']:.3f}, worst "
        f"{unseen['worst']:.3f}; plain errors: mean {plain['mean']:.3f}, worst {plain['worst']:.3f}."
    ]
