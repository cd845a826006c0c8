"""The video demo's report: what the scores are worth, the pictures, one page and one JSON."""

from __future__ import annotations

import base64
import html
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keepfit import metrics
from keepfit.app.demo.report import shown
from keepfit.pipelines.score_video import Scored
from keepfit.tasks.video.features import LEVELS
from keepfit.tasks.video.frames import VideoFacts, read_frames
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.normality import SURPRISES
from keepfit.tasks.video.pictures import draw_heat
from keepfit.tasks.video.preparation import PAST
from keepfit.tasks.video.segments import written_at_once
from keepfit.tasks.video.timeline import Segment, Timeline

BOX = 16
"""Pixels along the box of the one-line score."""
LAG = 2
TRAILING = 5
JUDGED = 4
"""The last of so many parts of the video is what areas are taken from: only the threshold has seen it."""
MOST_PICTURES = 6


@dataclass(frozen=True, eq=False)
class Judged:
    """A video, and what the deployed version says of it."""

    found: Scored
    model: VideoModel
    version: int
    seconds: float
    """That the scoring took."""

    @property
    def video(self) -> Path:
        return self.found.file

    @property
    def about(self) -> VideoFacts:
        return self.found.about

    @property
    def timeline(self) -> Timeline:
        return self.found.timeline

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.found.segments

    @property
    def truth(self) -> NDArray[np.uint8] | None:
        """1 for anomalous frames, shape (n,); None where nobody knows."""
        return self.found.truth


@dataclass(frozen=True)
class Happening:
    """Something to look at: a true event, or, where the truth is unknown, a segment of alarm. Frames from 0."""

    name: str
    first: int
    last: int
    peak: int
    """The frame with its highest score."""
    alarm: int | None
    """Its first frame of label 1; None when it was missed."""


@dataclass(frozen=True)
class Shown:
    """A picture of the report."""

    path: Path
    words: str


def events(scored: Judged, names: Sequence[str]) -> list[Happening]:
    """The true events, in order, with these names if they are as many; none where the truth is unknown."""
    if scored.truth is None:
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], scored.truth == 1, [0]]).astype(np.int8))).reshape(-1, 2)
    if len(names) != len(edges):
        names = [f"event {number + 1}" for number in range(len(edges))]
    return [
        _happening(scored.timeline, name, first, stop - 1) for name, (first, stop) in zip(names, edges, strict=True)
    ]


def loudest(scored: Judged) -> list[Happening]:
    """Up to MOST_PICTURES segments with the highest peaks, in order; without any the frame with the highest score."""
    highest = sorted(scored.segments, key=lambda segment: -segment.peak_score)[:MOST_PICTURES]
    found = [
        _happening(scored.timeline, f"alarm at {segment.start_s:.1f} s", segment.first, segment.last)
        for segment in sorted(highest, key=lambda segment: segment.first)
    ]
    peak = int(scored.timeline.scores.argmax())
    return found or [_happening(scored.timeline, "the highest score", peak, peak)]


def _happening(timeline: Timeline, name: str, first: int, last: int) -> Happening:
    inside = slice(int(first), int(last) + 1)
    alarms = np.flatnonzero(timeline.labels[inside] == 1)
    alarm = int(first + alarms[0]) if len(alarms) else None
    return Happening(name, int(first), int(last), int(first + timeline.scores[inside].argmax()), alarm)


def false_alarms(segments: Sequence[Segment], true: Sequence[Happening]) -> list[Segment]:
    """The segments that lie outside every true event."""
    return [s for s in segments if not any(s.first <= one.last and one.first <= s.last for one in true)]


def area(truth: NDArray[np.uint8] | None, scores: NDArray[np.floating]) -> float | None:
    """Area under the ROC curve of raw scores on the last quarter; None where it holds one class, or nobody knows.

    >>> area(np.array([0, 0, 0, 0, 0, 0, 0, 1]), np.arange(8.0))
    1.0
    """
    if truth is None:
        return None
    said, true = np.asarray(scores)[judged(len(truth))], truth[judged(len(truth))]
    if len(np.unique(true)) < 2:
        return None
    return metrics.area(said[true == 1], said[true == 0])


def judged(n: int) -> slice:
    """The rows of the last quarter of n."""
    return slice(n - n // JUDGED, n)


def one_line(images: Iterable[NDArray[np.uint8]], starts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The score to beat, which learns nothing, shape (n,): the largest 16-px box of |x_t - x_(t-2)|, mean of 5 frames.

    Causal; begins anew at each of `starts` (n,).
    """
    found: list[float] = []
    recent, before = deque[float](maxlen=TRAILING), deque[NDArray[np.float32]](maxlen=LAG)
    for image, start in zip(images, starts, strict=True):
        if start:
            recent.clear()
            before.clear()
        now = image.astype(np.float32)
        recent.append(_largest_box(np.abs(now - before[0])) if len(before) == LAG else 0.0)
        before.append(now)
        found.append(float(np.mean(recent)))
    return np.array(found, np.float32)


def _largest_box(change: NDArray[np.float32]) -> float:
    size = min(BOX, *change.shape)
    sums = np.pad(change.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    totals = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return float(totals.max() / size**2)


def draw_pictures(folder: Path, scored: Judged, happenings: Sequence[Happening]) -> list[Shown]:
    """Each happening's peak under its heat map, and the errors at each noise level at the first that was found."""
    threshold, found = scored.model.threshold, list[Shown]()
    scale, heat = (threshold.exit, threshold.enter), scored.timeline.heat
    for number, one in enumerate(happenings, 1):
        path, peak = folder / f"heat-{number}.png", scored.timeline.times[one.peak]
        if heat is not None:
            draw_heat(path, _frames(scored, one.peak, 1)[0], heat[one.peak], scale)
            verdict = "found" if one.alarm is not None else "missed: it stays below the threshold"
            found.append(Shown(path, f"{one.name} at {peak:.1f} s: {verdict}"))
    chosen = next((one for one in happenings if one.alarm is not None), happenings[0])
    path = folder / "errors.png"
    _draw_errors(path, scored, chosen.peak)
    return [*found, Shown(path, f"What the error detector sees at {scored.timeline.times[chosen.peak]:.1f} s "
                                f"({chosen.name}): the frame, the errors of each question, and the "
                                "surprise that they make")]  # fmt: skip


def _frames(scored: Judged, first: int, count: int) -> NDArray[np.uint8]:
    frames = read_frames(scored.video, scored.model.facts.long_side, first, first + count)
    return np.stack([frame.image for frame in frames])


def _draw_errors(path: Path, scored: Judged, number: int) -> None:
    """The frame, the mean errors of its four questions on one scale, and the surprise that they make, in one strip."""
    parts, first = scored.model.parts, max(0, number - max(PAST))
    pictures = parts.preparation.pictures(images := _frames(scored, first, number - first + 1))
    now = len(pictures) - 1
    maps = parts.maps.of(pictures[now:], np.stack([[pictures[max(0, now - back)] for back in PAST]]))
    means = [maps[0, 2 * level] for level in range(len(LEVELS))]  # of each question the mean, then the maximum
    figure = Figure(figsize=(17, 2.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(means) + 2)
    axes[0].imshow(images[now], cmap="gray", vmin=0, vmax=255)
    highest = max(float(mean.max()) for mean in means)
    for place, mean, level in zip(axes[1:-1], means, LEVELS, strict=True):
        drawn = place.imshow(mean, cmap="magma", vmin=0, vmax=highest)
        place.set_title(str(level), fontsize=9)
    figure.colorbar(drawn, ax=axes[-2], label="error")
    figure.colorbar(
        axes[-1].imshow(parts.normal(maps)[0, -SURPRISES:].mean(axis=0), cmap="magma", vmin=0, vmax=6), ax=axes[-1]
    )
    for place, words in ((axes[0], f"frame {number}"), (axes[-1], "surprise")):
        place.set_title(words, fontsize=9)
    for place in axes:
        place.set_axis_off()
    with written_at_once(path) as part:
        figure.savefig(part, format="png")


def write(
    folder: Path, result: Mapping[str, Any], moments: Sequence[tuple[float, str]], pictures: Sequence[Shown],
    scored: Judged,
) -> None:  # fmt: skip
    """report.html, which holds its pictures, and result.json."""
    with written_at_once(folder / "result.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    stem = scored.video.stem
    page = PAGE.format(
        video=html.escape(scored.video.name),
        judgement=html.escape(judgement(result)),
        timeline=image(Shown(folder / f"{stem}.timeline.png", "Score over time")),
        overlay=html.escape(f"{stem}.overlay.mp4"),
        pictures="".join(image(one) for one in pictures),
        story="".join(f"<tr><td>{at:.1f} s</td><td>{html.escape(words)}</td></tr>" for at, words in moments),
        alarms="".join(_row(segment) for segment in scored.segments) or "<tr><td colspan=4>none</td></tr>",
        rows="".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(value(v))}</td></tr>" for k, v in result.items()),
        note=html.escape(scored.model.threshold.note),
    )
    with written_at_once(folder / "report.html") as part:
        part.write_text(page, "utf-8")


def judgement(result: Mapping[str, Any]) -> str:
    """What the numbers say, in a few sentences."""
    if result["events"] is None:
        return (
            f"{result['segments']} segments of alarm. Nobody has said what is in this video, so there is no area under "
            "the curve, and nothing is known of what was missed; look at the overlay."
        )
    found = f"{result['events_found']} of {result['events']} events raised an alarm, and "
    wrong = result["false_alarm_segments"]
    found += f"{wrong} segment{'' if wrong == 1 else 's'} of alarm lie{'s' if wrong == 1 else ''} outside every event."
    if result["frame_auc"] is None:
        return f"{found} The last quarter does not hold both normal and anomalous frames, so there is no area."
    better = (
        "" if result["frame_auc"] > result["frame_auc_one_line"] else " So the model is not worth its training here."
    )
    return (
        f"{found} Area under the ROC curve of frames on the last quarter, raw and causal: {result['frame_auc']:.3f}; "
        f"the largest box of a frame difference, one line that learns nothing, has {result['frame_auc_one_line']:.3f}."
        f"{better}"
    )


def _row(segment: Segment) -> str:
    cells = (
        f"{segment.start_s:.1f} s",
        f"{segment.end_s:.1f} s",
        f"{segment.peak_score:.2f}",
        f"{segment.p_value:.3f}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def image(one: Shown) -> str:
    """A picture with its words, inside the page."""
    data = base64.b64encode(one.path.read_bytes()).decode()
    words = html.escape(one.words)
    wide = ' class="wide"' if one.path.stem.endswith(("timeline", "errors")) else ""
    return (
        f'<figure{wide}><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'
    )


def value(held: Any) -> str:
    """A value for people."""
    if isinstance(held, Mapping):
        return ", ".join(f"{name}: {value(inner)}" for name, inner in held.items())
    return "unknown" if held is None else shown(held)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>keepfit: the video demo</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}}
img,video{{width:100%}}figure{{display:inline-block;width:31%;margin:.5%;vertical-align:top}}
figure.wide{{width:99%}}figcaption{{color:#555;font-size:.9rem}}table{{border-collapse:collapse;margin:1rem 0}}
th,td{{text-align:left;padding:.25rem .8rem;border-bottom:1px solid #ddd;vertical-align:top}}
td{{white-space:pre-line}}</style>
<h1>keepfit: a camera's normal life, and what does not belong to it</h1>
<p>From {video} a model learnt what is normal, without being told of any event. It passed its gate, was deployed, scored
the whole video, and answered the last minute of it over HTTP.</p>
<p><b>{judgement}</b></p>
{timeline}
<p>The score is no probability; it is read against the threshold, which was chosen from normal video that nothing else
was learnt from. {note}. The <a href="{overlay}">video with its heat map</a> lies beside this page.</p>
<h2>Where and why</h2>{pictures}
<h2>What happened</h2><table>{story}</table>
<h2>Alarms</h2><table><tr><th>from</th><th>to</th><th>peak</th><th>p-value of the peak</th></tr>{alarms}</table>
<h2>The numbers</h2><table>{rows}</table>
<p>One short video of one scene: these numbers show that the machinery works, and say little about other cameras.</p>
</html>
"""
