"""Clients that others made, against a real server: Triton's for the Open Inference Protocol, and Hugging Face's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore

pytestmark = pytest.mark.slow
DEADLINE = 60.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a server process with one toy model."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "keepfit.toml").write_text('[models.reviews]\ntask = "toy"\n', "utf-8")
    version = folder / ".keepfit" / "models" / "reviews" / "1"
    version.mkdir(parents=True)
    facts = {"format": 1, "task": "toy", "labels": ["bad", "good"], "table": {"love": "good"}, "shares": [0.6, 0.4]}
    (version / "model.json").write_text(json.dumps(facts), "utf-8")
    with RecordStore.open(f"sqlite:///{(folder / '.keepfit' / 'keepfit.db').absolute()}") as store:
        store.deploy("reviews", Traffic({1: 1.0}), Cause("a test", "the first"), datetime.now(UTC))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "keepfit.app.cli", "serve", "--project", str(folder), "--port"]
    process = subprocess.Popen([*command, place.partition(":")[2]], stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://{place}/health/ready", process)
        yield place
    finally:
        process.terminate()
        process.wait(DEADLINE)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            pause.wait(0.05)
    pytest.fail("the server was not ready in time")


@pytest.fixture
def triton(address: str) -> Iterator[Any]:
    if os.environ.get("CI") != "true":
        pytest.importorskip("tritonclient.http", exc_type=ImportError)
    import tritonclient.http

    with tritonclient.http.InferenceServerClient(address) as client:
        yield client


def text_input(texts: list[str], binary: bool) -> Any:
    from tritonclient.http import InferInput

    given = InferInput("text", [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_), binary_data=binary)
    return given


def test_tritons_client_finds_server_and_model(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("reviews")
    assert triton.is_model_ready("reviews", "1")
    assert not triton.is_model_ready("reviews", "7")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert triton.get_model_metadata("reviews")["versions"] == ["1"]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_its_answers_as_bytes_and_as_json(triton: Any, binary: bool) -> None:
    from tritonclient.http import InferRequestedOutput

    wanted = [InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities", "id")]
    answer = triton.infer("reviews", [text_input(["love it", "grüße"], binary)], outputs=wanted, request_id="seven")
    assert answer.get_response()["id"] == "seven"
    labels = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label")]
    assert labels == ["good", "bad"]
    np.testing.assert_allclose(answer.as_numpy("probabilities"), [[0.1, 0.9], [0.6, 0.4]], atol=1e-5)
    assert answer.as_numpy("score") is None


def test_tritons_client_gets_every_output_unless_it_names_some(triton: Any) -> None:
    answer = triton.infer("reviews", [text_input(["love it"], True)])
    assert answer.as_numpy("label").tolist() == [b"good"]
    assert answer.as_numpy("score").tolist() == pytest.approx([0.9])
    assert answer.as_numpy("abstained").tolist() == [False]
    assert answer.as_numpy("model_version").tolist() == [1]


def test_tritons_client_is_told_what_is_wrong(triton: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="is not live; live: 1"):
        triton.infer("reviews", [text_input(["love it"], True)], model_version="7")
    with pytest.raises(InferenceServerException, match="'priority' of the request cannot be honoured"):
        triton.infer("reviews", [text_input(["love it"], True)], priority=3)


@pytest.fixture
def hub_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are offline for the hub; this server is none."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("hub_client")
@pytest.mark.parametrize("path", ["", "/predict", "/models/reviews/predict"])
def test_the_client_of_hugging_face_classifies(address: str, path: str) -> None:
    client = InferenceClient(model=f"http://{address}{path}", token="any")
    both = client.text_classification("love it")
    assert [(one.label, round(one.score, 3)) for one in both] == [("good", 0.9), ("bad", 0.1)]
    (best,) = client.text_classification("love it", top_k=1, function_to_apply="softmax")
    assert best.label == "good"


@pytest.mark.usefixtures("hub_client")
def test_the_client_of_hugging_face_is_told_what_cannot_be_honoured(address: str) -> None:
    client = InferenceClient(base_url=f"http://{address}")
    with pytest.raises(HfHubHTTPError) as refused:
        client.text_classification("love it", function_to_apply="sigmoid")
    assert refused.value.response.status_code == 422
    assert "function_to_apply" in refused.value.response.text
