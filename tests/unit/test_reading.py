"""JSON bodies are read strictly, and refused with a sentence."""

from __future__ import annotations

import pytest

from keepfit.app.http.reading import read_json
from keepfit.errors import InvalidInput


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"deep": [{"b": 1, "b": 1}]}',
        b'{"a": "\\ud800"}',
        b'{"a": "\x00"}',
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'["a",]',
        b"[" * 5000,
        b"[" * 5000 + b"]" * 5000,
        b"1" * 10000,
    ],
)
def test_what_is_ambiguous_or_broken_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"text": ["\xc3\xa4", "\\ud83d\\ude00"]}', {"text": ["ä", "😀"]}),
        (b'{"text": "a \\\\u0000 b"}', {"text": "a \\u0000 b"}),
        (b' {"a": {"b": 1}, "c": {"b": 1}} ', {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)
def test_what_is_clear_is_read(body: bytes, value: object) -> None:
    assert read_json(body) == value


def test_a_null_character_is_named_by_its_place() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_json(b'{"examples": [{"text": "fine"}, {"text": "a\\u0000b"}]}')
    assert refused.value.field == "examples.1.text"
