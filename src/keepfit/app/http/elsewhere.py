"""POST /predictions: what a model answered that is served elsewhere."""

from __future__ import annotations

from typing import Any

from keepfit.app.http.elsewhere_schemas import SaidBody, SaidsBody, TakenOut
from keepfit.app.http.routing import Call, Route
from keepfit.errors import InvalidInput, NotFound, TooLarge
from keepfit.pipelines.intake import Said


def add_predictions(call: Call, body: SaidsBody) -> Any:
    """Store answers of a model that is served elsewhere; they are durable when this answers.

    All or none: the error names the first that cannot be taken. Sending the same again changes nothing.
    """
    intake = call.served.intake
    if intake is None:
        raise NotFound(
            f"the model {call.name!r} is served here, so its answers are known; "
            'set served = "elsewhere" for one that is not'
        )
    limit = call.service.limits.items
    many = body.predictions
    if many is not None and len(many) > limit:
        raise TooLarge(f"{len(many)} answers in one call are too many, the limit is {limit}", "predictions")
    said = [said_of(one) for one in many] if many is not None else [said_of(body)]
    try:
        taken = intake.take(said)
    except InvalidInput as error:
        if many is not None or error.field is None:
            raise
        words = str(error).removeprefix("predictions.0: ")
        raise InvalidInput(words, error.field.removeprefix("predictions.0").lstrip(".") or None) from error
    return {"accepted": len(said), "new": taken.new, "known": taken.known}


def said_of(body: SaidBody | SaidsBody) -> Said:
    """The answer in words of the pipeline."""
    if isinstance(body.text, list):
        raise InvalidInput('"text" is one text here; several answers go as {"predictions": [...]}', "text")
    return Said(
        str(body.id), str(body.version), body.text, body.embedding, body.probabilities, body.label, body.score,
        body.key, body.time, body.context or {},
    )  # fmt: skip


ROUTES = (Route("post", "/predictions", add_predictions, "predict", TakenOut, body=SaidsBody, errors=(409,)),)
