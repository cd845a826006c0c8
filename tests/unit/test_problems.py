"""Every error has its status, and its document holds what a caller needs."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.exceptions import MethodNotAllowed

from keepfit.app.http.problems import MEDIA_TYPE, of_http, of_keepfit
from keepfit.errors import (
    BackendError,
    Forbidden,
    InvalidInput,
    KeepfitError,
    NotFound,
    Overloaded,
    Refused,
    SettingsError,
    TooLarge,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("no", "text"), 422),
        (SettingsError("no"), 422),
        (TooLarge("no", "text"), 413),
        (NotFound("no"), 404),
        (Refused("no"), 409),
        (Forbidden("no"), 401),
        (Forbidden("no", known=True), 403),
        (Overloaded("no", 2.3), 429),
        (BackendError("no"), 503),
        (KeepfitError("no"), 500),
    ],
)
def test_every_error_of_ours_has_its_status(error: KeepfitError, status: int) -> None:
    with Flask("test").test_request_context("/predict"):
        response = of_keepfit(error)
    assert (response.status_code, response.content_type) == (status, MEDIA_TYPE)
    body = response.get_json(force=True)
    assert (body["status"], body["detail"]) == (status, "no")
    assert body["field"] == getattr(error, "field", None)


def test_an_overloaded_server_says_when_to_come_back() -> None:
    with Flask("test").test_request_context("/predict"):
        assert of_keepfit(Overloaded("no", 2.3)).headers["Retry-After"] == "3"


def test_a_wrong_method_names_the_right_ones() -> None:
    with Flask("test").test_request_context("/predict"):
        response = of_http(MethodNotAllowed(valid_methods=["POST"]))
    assert response.headers["Allow"] == "POST"
    assert response.content_type == MEDIA_TYPE
