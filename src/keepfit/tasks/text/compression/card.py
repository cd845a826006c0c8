"""What a compressed version's card says of the compression: the trade-off curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keepfit.tasks.text.card import listed, table
from keepfit.tasks.text.compression.judging import LENGTHS, Point

MB = 1e6


def section(points: Sequence[Point], refused: Mapping[str, str], loss: float) -> str:
    """Markdown, to follow the card of the version that was compressed."""
    lines = [
        f"allowed: {100 * loss:g} points of accuracy against fp32, all methods together",
        *(f"not tried: {name}, since {sentence}" for name, sentence in refused.items()),
    ]
    words = (
        "A server reads the network and the tokenizer and holds the network's weights in memory; milliseconds are "
        "those of one text alone on the machine that compressed; accuracy and agreement are of texts that were held "
        "out. What stands above is about the version before."
    )
    return f"## Compressed\n\n{listed(lines)}\n\n{table([row(point) for point in points])}\n\n{words}\n"


def row(point: Point) -> dict[str, str]:
    """One line of the table."""
    seen, c = point.accuracy, point.comparison
    value = "" if seen["value"] is None else f"{seen['value']:.4f} ({seen['low']:.4f} to {seen['high']:.4f})"
    return {
        "form": point.name,
        "MB read": f"{point.size / MB:.1f}",
        "MB held": f"{point.held / MB:.1f}",
        **{f"ms, {n} tokens": f"{point.milliseconds[str(n)]:.2f}" for n in LENGTHS if str(n) in point.milliseconds},
        "accuracy": value,
        "against fp32": "" if c is None else f"{c.difference:+.2%} ({c.low:+.2%} to {c.high:+.2%}, n = {c.n})",
        "same label": "" if c is None else f"{c.agreement:.2%} of {c.texts}",
        "expected loss": "" if c is None else f"{c.expected_loss:.2%} at most",
        "taken": "yes" if point.taken else "no",
        "because": point.because,
    }
