"""POST /predict: texts in, answers out, in keepfit's own form or Hugging Face's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keepfit.app.http.identity import about, request_id
from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import ExampleBody, HuggingFaceBody, HuggingFaceOut, PredictBody, PredictOut
from keepfit.app.http.video import answer_upload
from keepfit.app.http.video_schemas import UploadForm
from keepfit.errors import InvalidInput, Refused, TooLarge
from keepfit.serving.predictor import Answer, Request

DIGITS = 6
"""Decimals of a probability in an answer; float32 holds no more."""


def predict(call: Call, body: PredictBody) -> Any:
    """Classify one text or many; or a video, sent as the form `file`.

    Each answer has an id; a label that comes later may name it. A class that was retired (`keepfit classes retire`)
    has the probability 0 from then on, and the others are divided by the rest of the sum, until a version answers that
    was trained without it.
    """
    refuse_elsewhere(call)
    requests = read_requests(body)
    answers, version = ask(call, requests, field_of(body))
    if "inputs" in body.model_fields_set:
        top = body.parameters.top_k if body.parameters else None
        return [hugging_face(answer)[:top] for answer in answers]
    return {
        "predictions": [own_form(answer) for answer in answers],
        "model_version": version,
    }


def hugging_face_root(call: Call, body: HuggingFaceBody) -> Any:
    """Classify texts, as the clients of Hugging Face ask a server that they know by its address alone."""
    return predict(call, PredictBody.model_validate(body.model_dump(exclude_unset=True)))


ROUTES = (
    Route("post", "/", hugging_face_root, "predict", HuggingFaceOut, body=HuggingFaceBody, errors=(409,)),
    Route("post", "/predict", predict, "predict", PredictOut, body=PredictBody, upload=answer_upload,
          upload_form=UploadForm, errors=(409, 411, 413, 415, 429)),
)  # fmt: skip


def refuse_elsewhere(call: Call) -> None:
    """Raises Refused for a model that does not answer here, whatever door it is asked at."""
    if call.served.intake is not None:
        raise Refused(
            f"the model {call.name!r} is served elsewhere [served]: ask that server, and send its answers to POST "
            "/predictions"
        )


def ask(call: Call, requests: Sequence[Request], field: str) -> tuple[list[Answer], int | None]:
    """The answers, and the version that gave them; None where several did. Every door to a model goes through here.

    Raises TooLarge for more contents than one call may bring.
    """
    limit = call.service.limits.items
    if len(requests) > limit:
        raise TooLarge(
            f"{len(requests)} texts in one call are too many, the limit is {limit}; use POST /batches", field
        )
    answers = call.served.predictor.predict(requests)
    versions = {answer.prediction.model_version for answer in answers}
    version = versions.pop() if len(versions) == 1 else None
    about(call.name, version)
    return answers, version


def field_of(body: PredictBody) -> str:
    """Which of the three forms was used."""
    return next(iter(body.model_fields_set & {"text", "examples", "inputs"}))


def read_requests(body: PredictBody) -> list[Request]:
    """The contents that are asked about. Raises InvalidInput when there are none, or they are no texts."""
    form = field_of(body)
    asked_by = request_id()
    if body.examples is not None:
        return [of_example(place, example, asked_by) for place, example in enumerate(body.examples)]
    given = getattr(body, form)
    if not isinstance(given, list):
        return [Request(given, field=form, request=asked_by)]
    if not given:
        raise InvalidInput(f'"{form}" is an empty list; give at least one text', form)
    return [Request(content, field=f"{form}.{place}", request=asked_by) for place, content in enumerate(given)]


def of_example(place: int, example: ExampleBody, asked_by: str | None) -> Request:
    """One entry of `examples`."""
    where = f"examples.{place}.text"
    return Request(
        example.text, example.id, example.key, example.time, example.context, field=where, request=asked_by
    )  # fmt: skip


def own_form(answer: Answer) -> dict[str, Any]:
    """One answer, as documented in PredictionOut."""
    prediction = answer.prediction
    probabilities = [round(p, DIGITS) for p in prediction.scores.tolist()]
    best = int(np.argmax(prediction.scores))
    return {
        "id": prediction.id,
        "example_id": prediction.example_id,
        "label": None if answer.abstained else prediction.labels[best],
        "score": probabilities[best],
        "probabilities": dict(zip(prediction.labels, probabilities, strict=True)),
        "model_version": prediction.model_version,
        "abstained": answer.abstained,
    }


def hugging_face(answer: Answer) -> list[dict[str, Any]]:
    """One answer as the text-classification task of Hugging Face gives it: labels by falling score."""
    scores = answer.prediction.scores.tolist()
    pairs = sorted(zip(answer.prediction.labels, scores, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": round(score, DIGITS)} for label, score in pairs]
