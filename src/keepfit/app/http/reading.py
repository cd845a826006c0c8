"""StrictRequest: JSON bodies are read once, strictly, and refused with a sentence."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import orjson
from flask import Request, request
from pydantic import BaseModel
from werkzeug.exceptions import RequestEntityTooLarge

from keepfit.app.http.problems import wrong_type
from keepfit.errors import InvalidInput

DEEPEST = 32
"""Levels of a JSON body; what is deeper is no request but an attempt on the parsers."""

Form = TypeVar("Form", bound=BaseModel)


class StrictRequest(Request):
    """A request whose JSON has no duplicate names, NaN, lone surrogates or null characters."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body; an empty one is an empty object. Raises InvalidInput, and 415 for another content type."""
        body = whole_body(self)
        if not body and not self.mimetype:
            return {}
        if not self.is_json:
            raise wrong_type("application/json")
        value = read_json(body) if body else {}
        if not isinstance(value, dict):
            raise InvalidInput('the body must be a JSON object such as {"text": "..."}')
        return value


def whole_body(asked: Request) -> bytes:
    """The body of a request. Raises 413 for one over the limit."""
    body = asked.get_data(cache=False)
    if asked.content_length is None and len(body) >= (asked.max_content_length or len(body) + 1):
        raise RequestEntityTooLarge  # werkzeug cuts a chunked body off at the limit without a word
    return body


def read_form(form: type[Form]) -> Form:
    """The parts of a multipart request. Raises ValidationError as the form says; a name that comes twice is a list."""
    parts: dict[str, list[Any]] = {}
    for given in (request.form, request.files):
        for name in given:
            parts.setdefault(name, []).extend(given.getlist(name))
    return form.model_validate({name: values[0] if len(values) == 1 else values for name, values in parts.items()})


def read_json(body: bytes) -> Any:
    """The value in a JSON document.

    Raises InvalidInput when it is no JSON (RFC 8259, UTF-8), nested too deep, an object has a name twice, or a string
    holds a null character (databases and tokenizers do not agree on these).

    >>> read_json(b'{"text": "fine"}')
    {'text': 'fine'}
    """
    try:
        value = orjson.loads(body)
        DUPLICATES.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if body.count(b"{") + body.count(b"[") > DEEPEST and too_deep(value):
        raise InvalidInput(f"the body is nested more than {DEEPEST} deep; send it flatter")
    if b"\\u0000" in body and (place := null_place(value)) is not None:
        raise InvalidInput("a string holds a null character (\\u0000); remove it", place or None)
    return value


def too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other more than DEEPEST times."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [item for one in level if isinstance(one, dict | list)
                 for item in (one.values() if isinstance(one, dict) else one)]  # fmt: skip
        if not any(isinstance(item, dict | list) for item in level):
            return False
    return True


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """Raises ValueError when a name comes twice, where parsers differ in what they keep."""
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        twice = next(name for name in names if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"the name {twice!r} comes twice in one object")


DUPLICATES = json.JSONDecoder(object_pairs_hook=refuse_duplicates)
"""Made once; it only looks, for orjson has read and knows that this is JSON in UTF-8."""


def null_place(value: Any, place: str = "") -> str | None:
    """Where a null character is, as a dotted path."""
    if isinstance(value, str):
        return place if "\x00" in value else None
    if isinstance(value, dict):
        inner = [(str(name), item) for name, item in value.items()]
        if any("\x00" in name for name in value):
            return place
    elif isinstance(value, list):
        inner = [(str(number), item) for number, item in enumerate(value)]
    else:
        return None
    found = (null_place(item, f"{place}.{name}".lstrip(".")) for name, item in inner)
    return next((f for f in found if f is not None), None)
