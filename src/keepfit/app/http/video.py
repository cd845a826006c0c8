"""POST /predict with a video, and /streams for cameras: the doors of models of the task video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from keepfit.app.http.identity import request_id
from keepfit.app.http.problems import wrong_type
from keepfit.app.http.reading import read_form
from keepfit.app.http.routing import Call, Route
from keepfit.app.http.video_schemas import FramesForm, FramesOut, StreamBody, StreamClosedOut, StreamOut, UploadForm
from keepfit.app.wiring import LATE, named
from keepfit.data.records import Prediction
from keepfit.errors import InvalidInput, Refused
from keepfit.serving.predictor import Answer, Request

if TYPE_CHECKING:  # they bring the video decoder, which a server of texts does not need
    from keepfit.tasks.video.intake import Intake
    from keepfit.tasks.video.model import VideoModel

TASK = "video"
DIGITS = 6


def answer_upload(call: Call) -> Any:
    """What is said of a video that was sent: segments of alarm, every window and every frame.

    The video is stored, so that a label for one of its windows can be learnt from.
    """
    if call.served.task != TASK:
        raise wrong_type("application/json")  # before the file is read
    form = read_form(UploadForm)
    model = cast("VideoModel", call.served.predictor.version_for(form.key or "").model)
    footage = intake(call).video(form.file, model.facts, form.key)
    windows = footage.windows()
    key = form.key or footage.name
    answers = ask(call, [Request(str(window), key=key, group=window.name, request=request_id()) for window in windows])
    return {
        "model_version": answers[0].prediction.model_version,
        "predictions": [
            window_out(window.first, window.stop, answer.prediction)
            for window, answer in zip(windows, answers, strict=True)
        ],
        **footage.answer([answer.details for answer in answers]),
    }


def open_stream(call: Call, body: StreamBody) -> Any:
    """Begin a session with a camera: its frames are answered one after the other, with memory."""
    refuse_others(call)
    session, version = call.service.streams.open(call.served.predictor, body.key)
    return {"id": session.id, "key": session.key, "model_version": version}


def push_frames(call: Call, form: FramesForm, id: str) -> Any:
    """The next frames of a camera, as pictures or pieces of video, in order; what is said of each."""
    refuse_others(call)

    def read(model: VideoModel) -> Any:
        for part in form.file:
            part.stream.seek(0)
        return intake(call).pieces(form.file, model.facts)

    pushed = call.service.streams.push(call.served.predictor, id, read, request_id())
    frames = [
        {
            "frame": moment.frame,
            "time_s": round(moment.time_s, DIGITS),
            "score": round(moment.score, DIGITS),
            "label": moment.label,
        }
        for moment in pushed.moments
    ]
    return {
        "frames": frames,
        "model_version": pushed.version,
        "threshold": round(pushed.threshold.enter, DIGITS),
        "windows": [window_out(one.first, one.stop, one.prediction) for one in pushed.windows],
    }


def close_stream(call: Call, id: str) -> Any:
    """End a session with a camera."""
    refuse_others(call)
    session = call.service.streams.close(call.served.predictor, id)
    return {"id": session.id, "frames": session.frames}


ROUTES = (
    Route("post", "/streams", open_stream, "predict", StreamOut, body=StreamBody, errors=(409, 429)),
    Route("post", "/streams/<id>/frames", push_frames, "predict", FramesOut, form=FramesForm,
          errors=(409, 411, 413, 415)),
    Route("delete", "/streams/<id>", close_stream, "predict", StreamClosedOut, errors=(409,)),
)  # fmt: skip


def intake(call: Call) -> Intake:
    """Where files go; loaded with the first one."""
    return cast("Intake", named(LATE["intake"])(call.service.videos, call.service.limits.clip_s))


def refuse_others(call: Call) -> None:
    """Raises Refused where the model is none of video."""
    if call.served.task != TASK:
        raise Refused(f"the model {call.name!r} is of the task {call.served.task}; streams are for models of video")


def ask(call: Call, requests: Sequence[Request]) -> list[Answer]:
    """The answers; what is wrong with a video that was sent is wrong with the file."""
    try:
        return call.served.predictor.predict(requests)
    except InvalidInput as error:
        error.field = "file"
        raise


def window_out(first: int, stop: int, prediction: Prediction) -> dict[str, Any]:
    """As documented in WindowOut."""
    return {
        "id": prediction.id,
        "first": first,
        "last": stop - 1,
        "label": prediction.label,
        "score": round(prediction.confidence, DIGITS),
    }
