"""POST /labels and GET /labels/queue: the truth that comes later, and what to ask for."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import LabelBody, LabelsBody, LabelsOut, QueueOut, QueueQuery
from keepfit.clock import SKEW
from keepfit.data.records import AUDIT, Example, Label, Prediction, QueueItem, Source
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound, TooLarge
from keepfit.rollout.rollout import waiting_since

log = logging.getLogger(__name__)


def add_labels(call: Call, body: LabelsBody) -> Any:
    """Store labels; they are durable when this answers.

    All or none: the error names the first that cannot be taken. Sending them again changes nothing.
    """
    limit = call.service.limits.items
    if len(body.labels) > limit:
        raise TooLarge(f"{len(body.labels)} labels in one call are too many, the limit is {limit}", "labels")
    read = [read_label(call, place, label) for place, label in enumerate(body.labels)]
    quota = call.caller.quota(call.service.clock.now())
    new = call.service.store.add_labels(call.name, [label for label, _ in read], quota)
    for label, prediction in read:
        facts = {"prediction": prediction.id, "version": prediction.model_version, "asked_by": prediction.request}
        log.info("label of the source %s accepted", label.source, extra={"model": call.name, **facts})
    return {"accepted": len(read), "new": new}


def queue(call: Call, query: QueueQuery) -> Any:
    """What to label next: drawn by chance among the answers, each with that chance."""
    store = call.service.store
    return {
        "items": [queue_item(item) for item in store.queue(call.name, query.limit, waiting_since(store, call.name))]
    }


ROUTES = (
    Route("post", "/labels", add_labels, "label", LabelsOut, body=LabelsBody, errors=(409,)),
    Route("get", "/labels/queue", queue, "label", QueueOut, query=QueueQuery),
)


def queue_item(item: QueueItem) -> dict[str, Any]:
    """As documented in QueueItemOut."""
    return {
        "question": item.id,
        "prediction_id": item.prediction_id,
        "id": item.example.id,
        "text": item.example.content,
        "reason": item.reason,
        "propensity": item.propensity,
        "asked_at": item.asked_at,
        "labels": list(item.label_set),
    }


def read_label(call: Call, place: int, body: LabelBody) -> tuple[Label, Prediction]:
    """The label to be stored, and what it is about. Raises NotFound or InvalidInput, with the label's place."""
    try:
        example, prediction = find(call, body)
        time = time_of(call, body)
        value = value_of(call, body, prediction, time)
    except (InvalidInput, NotFound) as error:
        raise at_place(error, f"labels.{place}") from error
    source, propensity = source_of(call, example, body.question)
    label = Label(
        example_id=example.id,
        value=value,
        time=time,
        source=source,
        actor=call.caller.speaks_as(body.actor),
        propensity=propensity,
        prediction_id=prediction.id,
    )
    return label, prediction


def time_of(call: Call, body: LabelBody) -> datetime:
    """When the label became known. Raises InvalidInput for the future, from where it would beat every correction."""
    now = call.service.clock.now()
    if body.time is not None and body.time > now + SKEW:
        raise InvalidInput(
            f"{body.time.isoformat()} lies in the future; give the time when the label became known", "time"
        )
    return now if body.time is None else min(body.time, now)


def at_place(error: KeepfitError, place: str) -> KeepfitError:
    """The same error, saying which label it was."""
    if isinstance(error, InvalidInput):
        return type(error)(f"{place}: {error}", f"{place}.{error.field}" if error.field else place)
    return type(error)(f"{place}: {error}")


def find(call: Call, body: LabelBody) -> tuple[Example, Prediction]:
    """The example that a label is about; one that was answered a moment ago may still wait to be stored."""
    known = look_up(call, body) if body.prediction_id is not None or body.question is not None else None
    if known is None:
        call.service.writer.flush()
        known = look_up(call, body)
    if known is None:
        raise NotFound(unknown_example(body))
    return known


def look_up(call: Call, body: LabelBody) -> tuple[Example, Prediction] | None:
    store, asked = call.service.store, body.prediction_id
    if body.question is not None and (item := store.queue_item(call.name, id=body.question)) is not None:
        asked = item.prediction_id
    if asked is not None or body.question is not None:
        try:
            return None if asked is None else store.prediction(call.name, asked)
        except NotFound:
            return None
    if body.id is not None:
        return store.find_prediction(call.name, example_id=body.id)
    return store.find_prediction(call.name, group=group_of(call, body.text))


def group_of(call: Call, text: Any) -> str:
    """The group under which this very text was recorded."""
    if (intake := call.served.intake) is not None:
        content = intake.text_columns([text]).content(text)
        return Example(content, call.service.clock.now()).group_or_default()
    predictor = call.served.predictor
    if not predictor.live.models and not predictor.rest.asleep:
        raise BackendError("no version is deployed, so no text can be read; name the example by an id")
    reader = predictor.main_version().model
    return Example(reader.read(text), call.service.clock.now()).group_or_default()


def unknown_example(body: LabelBody) -> str:
    """A sentence for a label that fits nothing we answered."""
    if body.question is not None:
        return f"no question has the id {body.question!r}; give one that GET /labels/queue returned"
    if body.prediction_id is not None:
        return f"no answer has the id {body.prediction_id!r}; give an id that POST /predict returned"
    if body.id is not None:
        return f"no example with your id {body.id!r} was ever answered; send it as `examples` to POST /predict first"
    return "this text was never answered; send it to POST /predict first"


def value_of(call: Call, body: LabelBody, prediction: Prediction, time: datetime) -> str:
    """The class. Raises InvalidInput for one that is not known, or when `wrong` does not say which.

    Known is what the model answers with, what people have accepted, and with `new_class` anything; what they have
    retired or split since is refused.
    """
    known, classes = prediction.labels, call.service.store.classes(call.name)
    if body.label is not None:
        if (refusal := classes.refusal(body.label, time)) is not None:
            raise InvalidInput(refusal, "label")
        if body.label in known or body.label in classes.known():
            return body.label
        if not call.served.new_classes:
            hint = "; new classes are ignored here [retraining.new_classes]" if body.new_class else ""
            raise InvalidInput(f"{body.label!r} is not one of the labels: {listed(known)}{hint}", "label")
        if not body.new_class:
            hint = '; if it is a class that the model does not know yet, say "new_class": true'
            raise InvalidInput(f"{body.label!r} is not one of the labels: {listed(known)}{hint}", "label")
        return body.label
    if len(known) != 2:
        raise InvalidInput(
            f"there are {len(known)} classes, so `wrong` does not say which is right; give the label: {listed(known)}",
            "wrong",
        )
    return known[1] if prediction.label == known[0] else known[0]


def listed(labels: tuple[str, ...], most: int = 30) -> str:
    """The labels for a sentence."""
    more = f", and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(repr(label) for label in labels[:most]) + more


def source_of(call: Call, example: Example, question: str | None) -> tuple[Source, float | None]:
    """Asked, when we asked for it; else what the model's settings say.

    An objection to an answer that happens to be audited is none of the audit's answers: it knows what the model said.
    """
    item = call.service.store.queue_item(call.name, example_id=example.id, id=question)
    if item is not None and (question is not None or AUDIT not in item.parts):
        return Source.ASKED, item.propensity
    return call.served.label_source, None
