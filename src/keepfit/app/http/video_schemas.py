"""Schemas of video: what is sent to, and answered by, a model of one camera."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from keepfit.app.http.fields import Name, SentFile, Strict


class VideoFactsOut(BaseModel):
    """The video that was sent."""

    name: str = Field(
        description="Under which it is stored; a window of it is asked about as NAME#FIRST-STOP, with ~CAMERA at the "
        "end where there are several."
    )
    frames: int
    width: int
    height: int
    fps: float
    duration_s: float | None = Field(description="As the file says; null where it does not.")
    codec: str
    decoder: str
    variable_rate: bool
    rotation: int = Field(description="Degrees counter-clockwise by which the stored pictures were turned.")


class ThresholdOut(BaseModel):
    """When a score is an alarm."""

    enter: float = Field(description="An alarm begins when min_frames scores in a row reach this.")
    exit: float = Field(description="It ends when a score falls below this.")
    min_frames: int
    merge_gap: int = Field(description="Segments with fewer normal frames between them are one.")
    alarms_per_day: float = Field(description="The budget of false alarms it was chosen for.")
    blocks: int = Field(description="Seconds of normal video it was chosen from.")
    method: str = Field(description="conformal, or extrapolated beyond what so many blocks can show.")
    note: str


class SegmentOut(BaseModel):
    """A stretch of alarm."""

    first: int = Field(description="Number of its first frame, from 0.")
    last: int = Field(description="Of its last frame, which belongs to it.")
    start_s: float
    end_s: float
    label: int
    peak_frame: int
    peak_score: float
    mean_score: float
    p_value: float | None = Field(description="Of the peak, against normal seconds.")
    box: list[int] | None = Field(description="Where, at the peak: left, top, right, bottom in pixels of the video.")


class WindowOut(BaseModel):
    """One window of about three seconds, as it is recorded; a label may name it."""

    id: str = Field(description="The prediction's id, for POST /labels.")
    first: int
    last: int
    label: str = Field(description='"1" for an anomaly, else "0".')
    score: float = Field(description="Of the label, 0.5 to 1; no probability.")


class FrameOut(BaseModel):
    """One frame."""

    frame: int
    time_s: float
    score: float = Field(description="Higher is more anomalous; no probability.")
    label: int = Field(description="1 in an alarm, else 0.")


class VideoOut(BaseModel):
    """What is said of a video."""

    model_version: int
    video: VideoFactsOut
    threshold: ThresholdOut
    segments: list[SegmentOut]
    predictions: list[WindowOut]
    frames: list[FrameOut]


class UploadForm(Strict):
    """A video, to a model of the task video."""

    file: SentFile = Field(description="MP4, AVI, MKV, MOV, GIF, WebM or MPEG.")
    key: Name | None = Field(None, description="The camera; answered by one version.")


class StreamBody(Strict):
    """Which camera."""

    key: Name | None = Field(None, description="The camera; without one the session's id.")


class StreamOut(BaseModel):
    """A session."""

    id: str
    key: str
    model_version: int = Field(description="Who answers it now.")


class FramesForm(Strict):
    """The next frames, in order."""

    file: Annotated[list[SentFile], Field(min_length=1)] = Field(
        description="Each a JPEG or PNG picture, or a piece of video."
    )


class FramesOut(BaseModel):
    """What is said of them."""

    frames: list[FrameOut] = Field(description="Counted, and timed in seconds, from the session's first frame.")
    model_version: int
    threshold: float = Field(
        description="What scores must reach now: the version's, or the camera's where judged anew."
    )
    windows: list[WindowOut] = Field(description="Of about three seconds each, that these frames have filled.")


class StreamClosedOut(BaseModel):
    """A session that is no more."""

    id: str
    frames: int = Field(description="So many were answered.")
