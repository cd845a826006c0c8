"""`keepfit demo --task video`: a camera's normal life is learnt, what does not belong is found, a clip is answered."""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from keepfit.app.demo.plaza import Event, render_plaza, write_sidecar
from keepfit.app.demo.stage import Stage
from keepfit.app.demo.story import free_port, fresh_folder, ready, until
from keepfit.app.demo.video_report import (
    Judged,
    area,
    draw_pictures,
    events,
    false_alarms,
    loudest,
    one_line,
    write,
)
from keepfit.app.demo.video_stage import Phases
from keepfit.app.model_settings import VIDEO_FLOOR
from keepfit.app.project import Project, check_readable
from keepfit.app.settings import FILE
from keepfit.app.wiring import answering_half
from keepfit.errors import BackendError
from keepfit.pipelines.score_video import names_of, write_outputs
from keepfit.pipelines.score_video import scored as scored_by
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frames import facts, read_frames
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.segments import written_at_once

SEED = 7
MODEL = "camera"
CLIP_S, CLIP_FRAMES = 60.0, 600
"""The clip for the server: the last minute, but no more frames than this of a fast camera."""
START_S, ANSWER_S = 120.0, 300.0
"""How long the server may take to start, and to answer."""
SETTINGS = """\
tracking = "local"

[server]
port = {port}

[models.camera]
task = "video"

[models.camera.gate]
floors = {{ auc = {floor} }}

[models.camera.recipe.video]
profile = "demo"
budget_minutes = {budget_minutes}
steps = {steps}
sequences = {sequences}
long_side = {long_side}
alarms_per_day = {alarms_per_day}
"""


@dataclass(frozen=True)
class Plan:
    """How long the story is. The first three quarters are learnt from, so the events lie in the last one."""

    seconds: float = 240.0
    size: tuple[int, int] = (192, 144)
    """Width and height of the generated video."""
    events: tuple[Event, ...] = (
        Event("wrong_way", 197.0, 1.0),
        Event("rider", 221.0, 3.0),
        Event("dropped", 230.5, 3.0),
    )
    """The first among what the threshold is chosen from, which leaves it out; the others in the test part, with normal
    windows before, between and after them, for a gate that sees two normal windows says nothing."""
    budget_minutes: float = 2.5
    """For the training."""
    steps: int = 0
    """Of the denoiser; 0: from the budget."""
    sequences: int = 0
    """Clips with synthetic events for the head; 0: from the budget."""
    long_side: int = 256
    """One's own video is made smaller to this, so that the story does not take an hour."""
    alarms_per_day: float = 24.0
    """One an hour: the seconds that set the threshold can show nothing much rarer."""
    floor: float = VIDEO_FLOOR


WHOLE = Plan()


def run(out: Path, data: Path | None, quiet: bool, plan: Plan = WHOLE) -> Mapping[str, Any]:
    """Play it, write everything into `out`, and return the result.

    `ok`: deployed, written, and more events found than false alarms raised (where the truth is known).

    Raises BackendError when the first version does not pass its floor or the server does not answer.
    """
    began = time.monotonic()
    if data is not None:
        check_readable(data)
    home, port = fresh_folder(out), free_port()
    with Phases(quiet) as phases:
        video = rendered(out, plan, phases) if data is None else data
        names = [event.kind for event in plan.events] if data is None else []
        (home / FILE).write_text(SETTINGS.format(port=port, **settings_of(plan)), "utf-8")
        with closing(Project(home, MODEL)) as project:
            training_s = trained(project, video, phases)
            scored = score(project, video, phases)
            phases.begin("drawing")
            write_outputs(scored.model, scored.found, out, scored.version)
            files = [out / name for name in names_of(scored.video)]
            true = events(scored, names)
            pictures = draw_pictures(out, scored, true or loudest(scored))
            served = served_clip(project, port, scored, out / "last_minute.mp4", phases)
            result = summary(project, scored, names, [*files, *(picture.path for picture in pictures)])
        result |= {"training_seconds": round(training_s, 1), "served": served}
        result["seconds"] = round(time.monotonic() - began, 1)
        write(out, result, phases.moments, pictures, scored)
    Stage.farewell(result, out, quiet)
    return result


PLANNED = ("budget_minutes", "steps", "sequences", "long_side", "alarms_per_day", "floor")


def settings_of(plan: Plan) -> dict[str, Any]:
    """What the plan says of keepfit.toml."""
    return {name: getattr(plan, name) for name in PLANNED}


def rendered(out: Path, plan: Plan, phases: Phases) -> Path:
    """The plaza as a video, with its truth beside it."""
    phases.begin(f"rendering {plan.seconds:.0f} s of a plaza")
    plaza = render_plaza(out / "plaza.mp4", plan.seconds, plan.events, np.random.default_rng(SEED), size=plan.size)
    write_sidecar(plaza)
    kinds = ", ".join(f"{event.kind} at {event.start_s:g} s" for event in plan.events)
    phases.note(f"{plaza.path.name} is rendered: {plaza.frames} frames; {kinds}")
    return plaza.path


def trained(project: Project, video: Path, phases: Phases) -> float:
    """Import, train, gate and deploy as for any model; the seconds it took. Raises BackendError when it is refused."""
    began = time.monotonic()
    phases.begin("learning what is normal")
    snapshot, survey = project.import_data(video)
    phases.note(survey.as_text())
    result = project.train(video, phases.training, snapshot)
    if not result["deployed"]:
        raise BackendError("the first version did not pass its own floors: " + "; ".join(result["because"]))
    phases.note(f"version {project.champion()} has passed its gate and is deployed")
    return time.monotonic() - began


def score(project: Project, video: Path, phases: Phases) -> Judged:
    """Every frame, by the version that is deployed."""
    phases.begin("scoring the whole video")
    version = project.champion()
    model = cast(VideoModel, answering_half(project.home, project.model, project.store)(version))
    about, began = facts(video), time.monotonic()
    total = (about.duration_s or 0) * about.fps
    found = scored_by(model, video, lambda frames: counted(frames, total, phases))
    seconds = time.monotonic() - began
    phases.note(f"{len(found.timeline)} frames scored in {seconds:.1f} s; {len(found.segments)} segments of alarm")
    return Judged(found, model, version, seconds)


def counted(frames: Iterable[Frame], total: float, phases: Phases) -> Iterator[Frame]:
    """The frames, while the display follows."""
    for frame in frames:
        yield frame
        if total:
            phases.share(min(1.0, (frame.number + 1) / total))


def served_clip(project: Project, port: int, scored: Judged, clip: Path, phases: Phases) -> dict[str, Any]:
    """What a real server says of the last minute, beside what was said of the whole file."""
    phases.begin("serving over HTTP")
    first = cut(scored, clip)
    with serving(project, port):
        began = time.monotonic()
        said = post(port, clip)
    labels = np.array([frame["label"] for frame in said["frames"]], np.uint8)
    here = scored.timeline.labels[first:]
    agreement = float(np.mean(labels == here)) if len(labels) == len(here) else 0.0
    served = {
        "version": said["model_version"],
        "seconds": round(time.monotonic() - began, 1),
        "segments": len(said["segments"]),
        "segments_in_the_file": sum(segment.last >= first for segment in scored.segments),
        "same_labels": round(agreement, 4),
    }
    phases.note(f"the server answers the last {len(here)} frames: {served['segments']} segments, "
                f"{100 * agreement:.1f} % of the labels as in the file")  # fmt: skip
    return served


def cut(scored: Judged, path: Path) -> int:
    """Write the last minute, as the model sees it, as a clip of its own; the number of its first frame.

    Raises BackendError when it cannot be written.
    """
    fps, n = scored.about.fps, len(scored.timeline)
    first = max(0, n - min(CLIP_FRAMES, round(CLIP_S * fps)))
    options = {"preset": "veryfast", "crf": "16"}
    try:
        with written_at_once(path) as part, av.open(str(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
            stream.pix_fmt, (stream.height, stream.width) = "yuv420p", scored.model.facts.background.shape
            for frame in read_frames(scored.video, scored.model.facts.long_side, first):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="gray")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise BackendError(f"{path} cannot be encoded ({error}); make room on the disk and try again") from error
    return first


@contextmanager
def serving(project: Project, port: int) -> Iterator[None]:
    """`keepfit up` as a process of its own, which ends with this. Raises BackendError when it does not start."""
    command = [sys.executable, "-m", "keepfit.app.cli", "up", "--project", str(project.folder)]
    with (project.folder / "up.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as up:
        try:
            until(lambda: up.poll() is not None or ready(port), START_S, "the server did not start; see project/up.log")
            if up.poll() is not None:
                raise BackendError(f"the server ended with code {up.returncode}; see project/up.log")
            yield
        finally:
            up.terminate()
            try:
                up.wait(60)
            except subprocess.TimeoutExpired:
                up.kill()


def post(port: int, clip: Path) -> Mapping[str, Any]:
    """The server's answer to a file, sent as a browser sends it. Raises BackendError when it is no answer."""
    edge = secrets.token_hex(16)
    begin = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{clip.name}"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    )
    body = begin.encode() + clip.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as connection:
            connection.request("POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
            answer = connection.getresponse()
            said: Mapping[str, Any] = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise BackendError(f"the server did not answer the clip ({error}); see project/up.log") from error
    if answer.status != http.HTTPStatus.OK:
        raise BackendError(f"the server refused the clip ({answer.status}: {said}); see project/up.log")
    return said


def summary(project: Project, scored: Judged, names: Sequence[str], files: Sequence[Path]) -> dict[str, Any]:
    """The numbers of the story; None where nobody knows."""
    true, known = events(scored, names), scored.truth is not None
    line = None
    if known:
        images = (frame.image for frame in read_frames(scored.video, scored.model.facts.long_side))
        line = area(scored.truth, one_line(images, scored.timeline.starts))
    frame_auc, head = area(scored.truth, scored.timeline.scores), scored.model.facts.about["head"]
    found, wrong = [one for one in true if one.alarm is not None], false_alarms(scored.segments, true)
    fps = scored.about.fps
    return {
        "ok": (not known or len(found) > len(wrong)) and all(file.is_file() for file in files),
        "frame_auc": frame_auc,
        "frame_auc_one_line": line,
        "events": len(true) if known else None,
        "events_found": len(found) if known else None,
        "delay_s": {one.name: None if one.alarm is None else round((one.alarm - one.first) / fps, 2) for one in true},
        "segments": len(scored.segments),
        "false_alarm_segments": len(wrong) if known else None,
        "frames": len(scored.timeline),
        "versions": [version.number for version in project.models()],
        "deployed_version": scored.version,
        "scoring_frames_per_second": round(len(scored.timeline) / scored.seconds, 1),
        "head": head["kind"],
        "left_out": {name: head["left_out"][name] for name in ("mean", "worst")} if "left_out" in head else None,
        "left_out_plain": {name: head["plain"][name] for name in ("mean", "worst")} if "plain" in head else None,
        "threshold": scored.model.threshold.note,
    }
