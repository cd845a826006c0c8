"""What a client of the Open Inference Protocol lives through, in process, with the toy task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from keepfit.app import server, serving
from keepfit.app.service import Service
from keepfit.data.records import Cause, Traffic
from keepfit.data.tokens import Token, hash_token

HEADER = "Inference-Header-Content-Length"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "keepfit.toml").write_text('[server]\nmax_texts = 5\n[models.reviews]\ntask = "toy"\n', "utf-8")
    for number, table in ((1, {"love": "good"}), (2, {"love": "bad"})):
        folder = tmp_path / ".keepfit" / "models" / "reviews" / str(number)
        folder.mkdir(parents=True)
        facts = {"format": 1, "task": "toy", "labels": ["bad", "good"], "table": table, "shares": [0.6, 0.4]}
        (folder / "model.json").write_text(json.dumps(facts), "utf-8")
    made = serving.make(tmp_path)
    deploy(made, {1: 1.0})
    yield made
    made.close()
    made.store.close()


def deploy(service: Service, shares: dict[int, float]) -> None:
    service.store.deploy("reviews", Traffic(shares), Cause("a test", "for the test"), service.clock.now())
    service.models["reviews"].predictor.refresh()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return server.create_app(service).test_client()


def texts(*data: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": list(data)}], **more}


def infer(client: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v2/models/reviews/infer", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.data)
    return found


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_server_and_model_say_what_they_are(client: FlaskClient) -> None:
    assert client.get("/v2").json == {"name": "keepfit", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").status_code == 200
    model = client.get("/v2/models/reviews").json or {}
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]} in model["outputs"]
    assert client.get("/v2/models/reviews/ready").status_code == 200
    assert client.get("/v2/models/reviews/versions/1/ready").status_code == 200


def test_texts_are_answered_and_recorded_as_by_predict(service: Service, client: FlaskClient) -> None:
    answer = infer(client, texts("love it", "what", id="job-7"))
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("job-7", "reviews", "1")
    found = outputs(answer)
    assert found["label"] == ["good", "bad"]
    assert found["score"] == pytest.approx([0.9, 0.6])
    assert found["probabilities"] == pytest.approx([0.1, 0.9, 0.6, 0.4])
    assert json.loads(answer["parameters"]["labels"]) == ["bad", "good"]
    service.writer.flush()
    for text, id_ in zip(("love it", "what"), found["id"], strict=True):
        assert service.store.prediction("reviews", id_)[0].content == text


def test_the_openapi_document_says_what_goes_in_and_out(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json or {}
    for start in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        operation = document["paths"][f"{start}/infer"]["post"]
        content = operation["requestBody"]["content"]
        assert content["application/json"]["schema"]["$ref"].endswith("/InferBody")
        assert set(content) == set(operation["responses"]["200"]["content"])
        assert set(content) == {"application/json", "application/octet-stream"}
        assert {one["name"] for one in operation["parameters"] if one["in"] == "header"} == {HEADER}
        for status in ("401", "404", "409", "413", "422", "429", "503"):
            assert operation["responses"][status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorOut")
    schemas = document["components"]["schemas"]
    assert {"InferBody", "InputTensor", "WantedTensor", "InferOut", "ModelOut", "ErrorOut"} <= set(schemas)
    assert client.get("/openapi.json").json == document


def test_an_input_of_any_name_and_nested_data_are_taken(client: FlaskClient) -> None:
    body = {"inputs": [{"name": "anything", "datatype": "BYTES", "shape": [2, 1], "data": [["love"], ["hm"]]}]}
    assert outputs(infer(client, body))["label"] == ["good", "bad"]


def test_only_the_outputs_that_are_asked_for_are_given(client: FlaskClient) -> None:
    wanted = [{"name": "score"}, {"name": "label", "parameters": {"binary_data": False}}]
    assert list(outputs(infer(client, texts("love it", outputs=wanted)))) == ["score", "label"]


def test_strings_and_numbers_travel_as_bytes_both_ways(client: FlaskClient) -> None:
    strings = [text.encode() for text in ("love it", "grüße 👋")]
    tail = b"".join(len(one).to_bytes(4, "little") + one for one in strings)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(tail)}}
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "abstained"},
              {"name": "probabilities", "parameters": {"binary_data": True}}]  # fmt: skip
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    answer = client.post("/v2/models/reviews/infer", data=head + tail, headers={HEADER: str(len(head))})
    assert answer.status_code == 200, answer.text
    cut = int(answer.headers[HEADER])
    label, abstained, probabilities = json.loads(answer.data[:cut])["outputs"]
    assert abstained["data"] == [False, False]
    sizes = [one["parameters"]["binary_data_size"] for one in (label, probabilities)]
    assert answer.data[cut : cut + sizes[0]] == b"\x04\x00\x00\x00good\x03\x00\x00\x00bad"
    numbers = np.frombuffer(answer.data[cut + sizes[0] :], "<f4").reshape(probabilities["shape"])
    np.testing.assert_allclose(numbers, [[0.1, 0.9], [0.6, 0.4]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": []}, "one or more"),
        ({"inputs": [{"name": "text", "datatype": "FP32", "shape": [1], "data": [1.0]}]}, "texts are BYTES"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": ["a"]}]}, "has 1 strings"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [1]}]}, "must be strings"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [0], "data": []}]}, "at least one text"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [" "]}]}, "empty"),
        ({"outputs": [{"name": "logits"}]}, "there is no output 'logits'"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "cannot be honoured"),
        ({"parameters": {"priority": 3}}, "cannot be honoured"),
        ({"surprise": 1}, "unknown here"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_the_protocols_form(
    client: FlaskClient, change: dict[str, Any], words: str
) -> None:
    answer = client.post("/v2/models/reviews/infer", json=texts("love it") | change)
    assert answer.status_code == 422
    assert answer.json is not None
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("length", "body", "words"),
    [
        ("0", b"abc", "one at least"),
        ("99", b"{}", "has 2 bytes"),
        (None, b'{"inputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["a"]}]}\x01\x00\x00\x00a', "not valid"),
        ("*", b"\x09\x00\x00\x00ab", "end within a string"),
        ("*", b"\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
        ("*", b"\x01\x00\x00\x00\x00", "null character"),
    ],
)
def test_broken_binary_bodies_are_refused(client: FlaskClient, length: str | None, body: bytes, words: str) -> None:
    if length == "*":
        tensor = {"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(body)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        length, body = str(len(head)), head + body
    answer = client.post("/v2/models/reviews/infer", data=body, headers={} if length is None else {HEADER: length})
    assert answer.status_code == 422
    assert words in (answer.json or {})["error"]


def test_the_limit_of_texts_holds_here_too(client: FlaskClient) -> None:
    answer = client.post("/v2/models/reviews/infer", json=texts(*"abcdef"))
    assert answer.status_code == 413
    assert "the limit is 5" in (answer.json or {})["error"]


def test_versions_that_are_not_live_are_not_found(service: Service, client: FlaskClient) -> None:
    for path in ("/v2/models/reviews/versions/2", "/v2/models/reviews/versions/2/ready", "/v2/models/nobody"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert list(answer.json or {}) == ["error"]
    assert client.post("/v2/models/reviews/versions/2/infer", json=texts("love")).status_code == 404
    assert client.post("/v2/models/reviews/versions/1/infer", json=texts("love")).status_code == 200
    deploy(service, {1: 0.5, 2: 0.5})
    assert (client.get("/v2/models/reviews").json or {})["versions"] == ["1", "2"]
    refused = client.post("/v2/models/reviews/versions/1/infer", json=texts("love"))
    assert refused.status_code == 409
    assert "rollout is under way" in (refused.json or {})["error"]


def test_a_key_is_answered_by_one_version_as_by_predict(service: Service, client: FlaskClient) -> None:
    deploy(service, {1: 0.5, 2: 0.5})
    for user in ("ann", "bob", "cid", "dora"):
        plain = client.post("/predict", json={"examples": [{"text": "love", "key": user}]}).json or {}
        assert infer(client, texts("love", parameters={"key": user}))["model_version"] == str(plain["model_version"])


def test_tokens_and_roles_rule_here_too(service: Service, client: FlaskClient) -> None:
    service.store.add_token(Token("app", hash_token("s3cret"), ("predict",), service.clock.now()), "a test")
    later = server.create_app(service).test_client()
    assert later.get("/v2/health/live").status_code == 200
    refused = later.post("/v2/models/reviews/infer", json=texts("love"))
    assert refused.status_code == 401
    assert list(refused.json or {}) == ["error"]
    allowed = {"Authorization": "Bearer s3cret"}
    assert later.post("/v2/models/reviews/infer", json=texts("love"), headers=allowed).status_code == 200


def test_before_the_first_deployment_nothing_is_ready(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('[models.reviews]\ntask = "toy"\n', "utf-8")
    service = serving.make(tmp_path)
    client = server.create_app(service).test_client()
    assert client.get("/v2/models/reviews/ready").status_code == 503
    assert client.get("/v2/health/ready").status_code == 503
    assert client.post("/v2/models/reviews/infer", json=texts("love")).status_code == 503
    assert (client.get("/v2/models/reviews").json or {})["versions"] == []
    service.close()
    service.store.close()
