"""What a caller with a camera lives through, in process, with a tiny video model that nobody has trained."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from numpy.typing import NDArray
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from keepfit.app.alarms import Said
from keepfit.app.following import HttpServer, follow
from keepfit.app.server import create_app
from keepfit.app.service import HttpLimits, ServedModel, Service
from keepfit.app.serving import for_videos
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Prediction, Source, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor
from keepfit.serving.refined import LEVEL, REFINED, Refined
from keepfit.serving.refresher import Refresher
from keepfit.serving.streams import Streams
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.loading import load_answering
from keepfit.tasks.toy import ToyModel
from keepfit.tasks.video.frames import read_frames
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.segments import find
from keepfit.tasks.video.timeline import Timeline

INTRUDER = range(50, 70)
Images = NDArray[np.uint8]


@dataclass
class World:
    """A service with a video model, a model of texts, a clock, and a client."""

    service: Service
    client: FlaskClient
    clock: ManualClock
    refined: Refined

    @property
    def store(self) -> RecordStore:
        return self.service.store

    @property
    def predictor(self) -> Predictor:
        return self.service.models["plaza"].predictor

    def model(self) -> VideoModel:
        model = self.predictor.version_for("any").model
        assert isinstance(model, VideoModel)
        return model

    def deploy(self, version: int) -> None:
        self.clock.advance(timedelta(seconds=1))
        self.store.deploy("plaza", Traffic({version: 1.0}), Cause("trainer", "it is better"), self.clock.now())
        self.predictor.refresh()
        assert self.predictor.ready() is None

    def send(self, file: Path | bytes, name: str = "lobby.mp4", path: str = "/predict", **more: Any) -> TestResponse:
        content = file.read_bytes() if isinstance(file, Path) else file
        return self.client.post(path, data={"file": (io.BytesIO(content), name), **more})

    def stored(self) -> list[str]:
        """Videos, and whatever else was left there; where their cuts are is kept beside them."""
        names = (path.name for path in self.service.videos.iterdir())
        return sorted(name for name in names if not name.endswith(".starts.npy"))

    def predictions(self) -> list[Prediction]:
        self.service.writer.flush()
        window = Window(self.clock.now() - timedelta(days=1), self.clock.now() + timedelta(days=1))
        return self.store.predictions("plaza", window)

    def open(self, key: str | None = "gate 3") -> str:
        answer = self.client.post("/streams", json={} if key is None else {"key": key})
        assert answer.status_code == 200, answer.json
        return str((answer.json or {})["id"])

    def push(self, stream: str, *files: tuple[bytes, str]) -> TestResponse:
        parts = [(io.BytesIO(content), name) for content, name in files]
        return self.client.post(f"/streams/{stream}/frames", data={"file": parts})


@pytest.fixture(scope="module")
def versions(tiny_video: ModuleType, tiny_video_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions in one folder, as 1 and 2."""
    folder = tmp_path_factory.mktemp("versions")
    shutil.copytree(tiny_video_model, folder / "1")
    tiny_video.other_version(tiny_video_model, folder / "2", gain=2.0)
    return folder


@pytest.fixture(scope="module")
def clip(tiny_video: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds with an intruder in them."""
    path: Path = tiny_video.write_video(tmp_path_factory.mktemp("clips") / "lobby.mp4", tiny_video.plaza(100, INTRUDER))
    return path


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "keepfit.db"
    RecordStore.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def world(empty: Path, versions: Path, tmp_path: Path) -> Iterator[World]:
    """A world of one's own."""
    with a_world(empty, versions, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(empty: Path, versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for those who do not mind what others have sent."""
    with a_world(empty, versions, tmp_path_factory.mktemp("shared")) as made:
        yield made


@contextmanager
def a_world(empty: Path, versions: Path, folder: Path) -> Iterator[World]:
    shutil.copy(empty, folder / "keepfit.db")
    shutil.copytree(versions, folder / "models" / "plaza")
    (folder / "videos").mkdir()
    clock = ManualClock()

    def load(version: int) -> VideoModel:
        model = load_answering(folder / "models" / "plaza" / str(version), threads=1)
        assert isinstance(model, VideoModel)
        return model

    with RecordStore.open(f"sqlite:///{folder / 'keepfit.db'}") as store:
        writer = RecordWriter(store)
        plaza = Predictor("plaza", store, load, writer, clock, limits=for_videos(ServingLimits()))
        words = ToyModel(["bad", "good"], {}, [0.5, 0.5])
        texts = Predictor("texts", store, lambda _: words, writer, clock)
        for name in ("plaza", "texts"):
            store.deploy(name, Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        refined = Refined(store, "plaza")
        service = Service(
            store=store,
            models={"plaza": ServedModel(plaza, "video"), "texts": ServedModel(texts, "toy")},
            default="plaza",
            writer=writer,
            refresher=Refresher([refined, plaza, texts], interval_s=60),
            clock=clock,
            version="0.1.0",
            batches=folder / "batches",
            videos=folder / "videos",
            streams=Streams(2, timedelta(minutes=10), clock, {"plaza": refined}),
            limits=HttpLimits(body_bytes=100_000, file_bytes=400_000, items=50, clip_s=15.0),
        )
        client = create_app(service).test_client()
        service.start()
        yield World(service, client, clock, refined)
        service.close()


def ok(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.json
    body: dict[str, Any] = answer.json
    return body


def refused(answer: TestResponse, status: int, *words: str, field: str | None = None) -> None:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.json
    problem = answer.json or {}
    assert all(word in problem["detail"] for word in words), problem
    assert problem["field"] == field, problem


def column(body: dict[str, Any], name: str) -> list[Any]:
    return [frame[name] for frame in body["frames"]]


# a file


def test_a_video_is_answered_frame_by_frame_and_in_segments_as_when_it_is_scored_in_one_go(
    shared: World, clip: Path
) -> None:
    body = ok(shared.send(clip))
    model = shared.model()
    whole: Timeline = model.score(read_frames(clip))
    assert column(body, "frame") == list(range(100))
    assert column(body, "time_s") == pytest.approx(whole.times)
    assert column(body, "score") == pytest.approx(whole.scores, abs=1e-3)
    assert column(body, "label") == whole.labels.tolist()
    (segment,) = body["segments"]
    (expected,) = find(whole, model.threshold, 10.0, model.facts.own.maxima, (64, 48))
    assert (segment["first"], segment["last"], segment["label"]) == (expected.first, expected.last, 1)
    assert segment["first"] in INTRUDER
    assert segment["box"] == list(expected.box or ())
    assert segment["p_value"] == pytest.approx(1 / (model.threshold.blocks + 1))


def test_what_is_known_of_the_video_and_of_the_threshold_is_said(shared: World, clip: Path) -> None:
    body = ok(shared.send(clip))
    video, threshold = body["video"], body["threshold"]
    assert (video["width"], video["height"], video["fps"], video["frames"]) == (64, 48, 10.0, 100)
    assert video["codec"] == "h264"
    assert video["name"] in shared.stored()
    assert video["name"].endswith(".mp4")
    assert threshold["enter"] == pytest.approx(shared.model().threshold.enter)
    assert body["model_version"] == 1


def test_each_window_is_recorded_and_a_person_may_label_it(world: World, clip: Path) -> None:
    body = ok(world.send(clip, key="gate 3"))
    windows = body["predictions"]
    assert [(w["first"], w["last"], w["label"]) for w in windows] == [(0, 31, "0"), (32, 63, "1"), (64, 99, "1")]
    assert all(0.5 <= w["score"] <= 1 for w in windows)
    recorded = world.predictions()
    assert {(p.id, p.label, p.key) for p in recorded} == {(w["id"], w["label"], "gate 3") for w in windows}
    assert all(len(p.embedding) == world.model().embedding_dim for p in recorded)
    labels = {
        "labels": [
            {"prediction_id": windows[2]["id"], "label": "0"},
            {"prediction_id": windows[0]["id"], "wrong": True},
        ]
    }
    assert ok(world.client.post("/labels", json=labels)) == {"accepted": 2, "new": 2}
    window = Window(world.clock.now() - timedelta(days=1), world.clock.now() + timedelta(days=1))
    pairs = world.store.labelled("plaza", window, sources=frozenset(Source))
    assert sorted(label.value for _, label in pairs) == ["0", "1"]
    example, _ = world.store.prediction("plaza", windows[2]["id"])
    assert example.content == f"{body['video']['name']}#64-100"


def test_nothing_is_carried_over_a_cut(shared: World, tiny_video: ModuleType, tmp_path: Path) -> None:
    images = np.concatenate([tiny_video.plaza(50, range(40, 50)), 255 - tiny_video.plaza(30)])
    body = ok(shared.send(tiny_video.write_video(tmp_path / "two.mp4", images)))
    assert [(w["first"], w["last"]) for w in body["predictions"]] == [(0, 31), (32, 49), (50, 79)]
    assert column(body, "label")[49:52] == [1, 0, 0]


def test_the_same_video_is_stored_and_computed_once(world: World, clip: Path) -> None:
    first, second = ok(world.send(clip)), ok(world.send(clip, name="again.MP4"))
    assert len(world.stored()) == 1
    assert world.predictor.cache.hits == 3
    assert second["frames"] == first["frames"]
    assert sorted(p.stage for p in world.predictions()) == ["cache"] * 3 + ["model"] * 3


def test_a_stored_clip_may_be_named_instead(shared: World, clip: Path) -> None:
    name = ok(shared.send(clip))["video"]["name"]
    body = ok(shared.client.post("/predict", json={"text": [f"{name}#32-64", f"{name}#0-32"]}))
    assert [p["label"] for p in body["predictions"]] == ["1", "0"]
    for text, words in (
        ("hello", "NAME#FIRST-STOP"),
        ("other.mp4#0-32", "no stored video"),
        (f"{name}#0-32+speed@7", "synthetic"),
    ):
        refused(
            shared.client.post("/predict", json={"text": text}),
            422,
            words,
            field="text" if "#0-32+" not in text else "video",
        )
    refused(shared.client.post("/predict", json={"text": f"{name}#0-9000"}), 413, "shorter", field="text")


def test_clips_that_are_not_there_are_the_callers_fault_however_often(shared: World, clip: Path) -> None:
    name = ok(shared.send(clip))["video"]["name"]
    for first in range(5):
        answer = shared.client.post("/predict", json={"text": f"{name}#{90 + first}-200"})
        refused(answer, 422, "fewer than 200 frames", field="video")
    assert shared.predictor.ready() is None


def test_a_video_in_which_everything_would_seem_faster_is_refused(
    shared: World, tiny_video: ModuleType, tmp_path: Path
) -> None:
    before = shared.stored()
    hasty = tiny_video.write_video(tmp_path / "hasty.mp4", tiny_video.plaza(60), fps=25)
    refused(shared.send(hasty), 422, "25 frames a second and the model has learnt 10", field="file")
    assert shared.stored() == before


def test_a_video_that_is_too_long_goes_to_batch_and_is_not_kept(
    shared: World, tiny_video: ModuleType, tmp_path: Path
) -> None:
    long = tiny_video.write_video(tmp_path / "long.mp4", tiny_video.plaza(160))
    before = shared.stored()
    refused(shared.send(long), 413, "keepfit batch", "max_clip_s", field="file")
    assert shared.stored() == before


@pytest.mark.parametrize(
    ("data", "status", "word", "field"),
    [
        ({"file": (b"no video at all", "lobby.mp4")}, 422, "lobby.mp4", "file"),
        ({"file": (b"", "lobby.mp4")}, 422, "lobby.mp4", "file"),
        ({"file": (b"text\n", "lobby.csv")}, 422, ".mp4", "file"),
        ({"file": (b"x", "../../etc/passwd")}, 422, "passwd", "file"),
        ({"file": (b"x", "lobby.mp4"), "kee": "gate"}, 422, "kee", "kee"),
        ({"file": (b"x", "lobby.mp4"), "key": ""}, 422, "key", "key"),
        ({"key": "gate", "other": (b"x", "a.mp4")}, 422, "file", "file"),
        ({"file": "text", "other": (b"x", "a.mp4")}, 422, "file", "file"),
        ({"file": [(b"x", "a.mp4"), (b"x", "b.mp4")]}, 422, "one file", "file"),
        ({"file": (b"x" * 450_000, "lobby.mp4")}, 413, "limit", None),
    ],
)  # fmt: skip
def test_what_is_no_video_is_refused_and_not_kept(
    shared: World, data: dict[str, Any], status: int, word: str, field: str | None
) -> None:
    def part(value: Any) -> Any:
        return (io.BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value

    form = {name: [*map(part, value)] if isinstance(value, list) else part(value) for name, value in data.items()}
    before = shared.stored()
    refused(shared.client.post("/predict", data=form), status, word, field=field)
    assert shared.stored() == before


def test_video_of_another_camera_is_refused(shared: World, tiny_video: ModuleType, tmp_path: Path) -> None:
    turned = np.ascontiguousarray(tiny_video.plaza(20).transpose(0, 2, 1))
    before = shared.stored()
    refused(shared.send(tiny_video.write_video(tmp_path / "turned.mp4", turned)), 422, "64 x 48", field="file")
    assert shared.stored() == before


def test_a_model_of_texts_wants_json(shared: World, clip: Path) -> None:
    refused(shared.send(clip, path="/models/texts/predict"), 415, "application/json")
    refused(shared.send(clip, path="/models/nothing/predict"), 404, "plaza")
    refused(shared.client.post("/models/texts/streams", json={}), 409, "models of video")


def test_the_document_knows_both_forms(shared: World) -> None:
    document = ok(shared.client.get("/openapi.json"))
    for path in ("/predict", "/models/{name}/predict"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
        assert set(content["multipart/form-data"]["schema"]["properties"]) == {"file", "key"}
    assert list(document["paths"]["/streams/{id}/frames"]["post"]["requestBody"]["content"]) == ["multipart/form-data"]


def test_a_new_version_is_served_though_the_recent_videos_are_gone(world: World, clip: Path) -> None:
    name = ok(world.send(clip))["video"]["name"]
    world.service.writer.flush()
    (world.service.videos / name).unlink()
    careless = Predictor("plaza", world.store, world.predictor._versions._load, world.service.writer, world.clock)
    careless.refresh()
    assert careless.live.traffic.shares == {1: 1.0}, "it warms itself with recent contents, unlike ours"
    careless.close()
    world.deploy(2)
    assert world.predictor.live.traffic.shares == {2: 1.0}
    assert ok(world.send(clip))["model_version"] == 2


# a camera


@pytest.fixture
def pictures(tiny_video: ModuleType) -> Callable[[Images], list[tuple[bytes, str]]]:
    """Lossless pictures, as a camera sends them."""

    def of(images: Sequence[NDArray[np.uint8]] | Images) -> list[tuple[bytes, str]]:
        return [(tiny_video.picture(image), "frame.png") for image in images]

    return of


@pytest.fixture
def stream(shared: World) -> Iterator[str]:
    """A session in the shared world."""
    opened = shared.open()
    yield opened
    shared.client.delete(f"/streams/{opened}")


Pictures = Callable[[Images], list[tuple[bytes, str]]]


def test_a_camera_is_answered_as_one_long_video_however_its_frames_come(
    shared: World, stream: str, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images = tiny_video.plaza(70, INTRUDER)
    said = []
    for begin, end in ((0, 1), (1, 3), (3, 40), (40, 70)):
        said.append(ok(shared.push(stream, *pictures(images[begin:end]))))
    starts = np.arange(70) == 0
    scores = shared.model().stream().push(images, starts).scores
    frames = [frame for answer in said for frame in answer["frames"]]
    assert [frame["frame"] for frame in frames] == list(range(70))
    assert [frame["time_s"] for frame in frames] == pytest.approx(np.arange(70) / 10)
    assert [frame["score"] for frame in frames] == pytest.approx(scores, abs=1e-3)
    assert {frame["label"] for frame in frames[:50]} == {0}
    assert {frame["label"] for frame in frames[55:]} == {1}
    assert {answer["model_version"] for answer in said} == {1}


def test_pictures_and_pieces_of_video_may_come_together(
    shared: World, stream: str, tiny_video: ModuleType, clip: Path
) -> None:
    before = shared.stored()
    jpeg = (tiny_video.picture(tiny_video.plaza(1)[0], "mjpeg"), "")
    body = ok(shared.push(stream, jpeg, (clip.read_bytes(), "piece.mp4"), jpeg))
    assert column(body, "time_s") == pytest.approx(np.arange(102) / 10)
    assert shared.stored() == before, "what comes in a stream is not kept"


def test_each_full_window_of_a_stream_is_recorded_for_the_watch(
    world: World, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images = tiny_video.plaza(70, INTRUDER)
    stream = world.open()
    ok(world.push(stream, *pictures(images[:31])))
    assert world.predictions() == []
    told = ok(world.push(stream, *pictures(images[31:])))
    recorded = world.predictions()
    assert {(p.key, p.context["stream"], p.model_version) for p in recorded} == {("gate 3", stream, 1)}
    assert [(w["first"], w["last"], w["label"]) for w in told["windows"]] == [(0, 31, "0"), (32, 63, "1")]
    label = {"labels": [{"prediction_id": told["windows"][1]["id"], "label": "1"}]}
    assert ok(world.client.post("/labels", json=label)) == {"accepted": 1, "new": 1}
    said = {world.store.prediction("plaza", p.id)[0].content: p.label for p in recorded}
    assert said == {f"stream/{stream}#0-32": "0", f"stream/{stream}#32-64": "1"}
    assert all(len(p.embedding) == world.model().embedding_dim for p in recorded)


def test_a_camera_is_judged_by_its_own_threshold_once_it_was_judged_anew(
    world: World, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images, own = tiny_video.plaza(64, range(40, 64)), world.model().threshold
    stream, other = world.open(), world.open("gate 4")
    before = ok(world.push(stream, *pictures(images[:32])))
    assert before["threshold"] == pytest.approx(own.enter)
    found = asdict(replace(own, enter=900.0, exit=800.0))
    world.store.put("plaza", REFINED, {"version": 1, "cameras": {"gate 3": found}})
    world.refined.refresh()
    after = ok(world.push(stream, *pictures(images[32:])))
    assert (after["threshold"], set(column(after, "label"))) == (900.0, {0})
    beside = ok(world.push(other, *pictures(images)))
    assert (beside["threshold"], beside["frames"][-1]["label"]) == (pytest.approx(own.enter), 1)
    said = {(p.key, p.label): p.measures[LEVEL] for p in world.predictions()}
    assert set(said) == {("gate 3", "0"), ("gate 4", "0"), ("gate 4", "1")}
    assert said["gate 4", "1"] >= own.enter > said["gate 4", "0"]
    world.deploy(2)
    assert ok(world.push(stream, *pictures(images[:1])))["threshold"] == pytest.approx(world.model().threshold.enter)


def test_while_the_store_is_away_a_cameras_threshold_goes_on_holding(world: World) -> None:
    found = {"version": 1, "cameras": {"gate 3": asdict(world.model().threshold)}}
    world.store.put("plaza", REFINED, found)
    refined = Refined(world.store, "plaza")
    refined.refresh()
    away = Refined(Away(), "plaza")  # type: ignore[arg-type]
    away.refresh()
    assert away.of(1, "gate 3") is None
    assert refined.of(1, "gate 3") == world.model().threshold
    assert refined.of(2, "gate 3") is None


class Away:
    """A store whose database does not answer."""

    def get(self, model: str, name: str) -> Any:
        raise BackendError("the database is away")


def test_a_hot_swap_carries_the_session_over_and_an_alarm_goes_on(
    world: World, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images = tiny_video.plaza(80, range(40, 80))
    stream, quiet = world.open(), world.open("gate 4")
    before = ok(world.push(stream, *pictures(images[:60])))
    ok(world.push(quiet, *pictures(images[:10])))
    assert before["frames"][-1]["label"] == 1
    world.deploy(2)
    after = ok(world.push(stream, *pictures(images[60:])))
    assert (before["model_version"], after["model_version"]) == (1, 2)
    assert column(after, "frame") == list(range(60, 80))
    assert set(column(after, "label")) == {1}, "the alarm did not have to be raised again"
    long = world.model().stream().push(images, np.arange(80) == 0).scores[60:]
    assert column(after, "score") == pytest.approx(long, abs=1e-2), "as if the new version had seen it all"
    assert ok(world.push(quiet, *pictures(images[10:12])))["frames"][0]["label"] == 0
    assert [p.model_version for p in world.predictions()] == [1], "no window mixes versions"


def test_a_picture_that_cannot_be_taken_changes_nothing(
    shared: World, stream: str, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images = tiny_video.plaza(12)
    first = ok(shared.push(stream, *pictures(images[:10])))
    (good,) = pictures(images[10:11])
    small = (tiny_video.picture(images[0][:32, :32].copy()), "small.png")
    refused(shared.push(stream, good, small), 422, "32 x 32", "64 x 48", field="file.1")
    refused(shared.push(stream, good, (b"\x89PNG broken", "frame.png")), 422, "frame", field="file.1")
    refused(shared.push(stream, (b"words", "notes.txt")), 422, "notes.txt", field="file.0")
    refused(shared.push(stream, *pictures(images[:1]) * 257), 413, "256", field="file.256")
    refused(shared.client.post(f"/streams/{stream}/frames", json={}), 415, "multipart/form-data")
    refused(
        shared.client.post(f"/streams/{stream}/frames", data={"other": (io.BytesIO(b"x"), "a.png")}),
        422,
        "file",
        field="file",
    )
    again = ok(shared.push(stream, good))
    assert (len(first["frames"]), column(again, "frame")) == (10, [10])


def test_a_stream_that_is_closed_or_unknown_is_not_found(
    shared: World, stream: str, tiny_video: ModuleType, pictures: Pictures
) -> None:
    frame = pictures(tiny_video.plaza(1))
    ok(shared.push(stream, *frame))
    answer = shared.client.post(
        f"/models/texts/streams/{stream}/frames", data={"file": (io.BytesIO(frame[0][0]), "a.png")}
    )
    refused(answer, 409, "models of video")
    assert ok(shared.client.delete(f"/streams/{stream}")) == {"id": stream, "frames": 1}
    refused(shared.client.delete(f"/streams/{stream}"), 404, "POST /streams")
    refused(shared.push(stream, *frame), 404, "POST /streams")
    refused(shared.push("nothing", *frame), 404, "POST /streams")


def test_there_is_room_for_so_many_streams_and_idle_ones_make_way(
    world: World, tiny_video: ModuleType, pictures: Pictures
) -> None:
    frame = pictures(tiny_video.plaza(1))
    first, second = world.open(), world.open("gate 4")
    assert "keepfit_streams 2.0" in world.client.get("/metrics").text
    world.clock.advance(timedelta(minutes=4))
    full = world.client.post("/streams", json={"key": "gate 5"})
    refused(full, 429, "max_streams")
    assert full.headers["Retry-After"] == "360"
    ok(world.push(second, *frame))
    world.clock.advance(timedelta(minutes=6))
    third = world.open("gate 5")
    refused(world.push(first, *frame), 404, "POST /streams")
    assert column(ok(world.push(second, *frame)), "frame") == [1]
    assert column(ok(world.push(third, *frame)), "frame") == [0]


def test_a_stream_needs_a_version(shared: World) -> None:
    nothing = Predictor("plaza", shared.store, lambda _: shared.model(), shared.service.writer, shared.clock)
    service = replace(shared.service, models={"plaza": ServedModel(nothing, "video")})
    refused(create_app(service).test_client().post("/streams", json={"key": "gate"}), 503, "keepfit train")
    nothing.close()


# several cameras


@pytest.fixture
def cameras(world: World, tiny_video: ModuleType, tiny_video_model: Path, tmp_path: Path) -> World:
    """The same world, whose version 3 knows a door and a gate: before the gate everything is darker."""
    folder = tmp_path / "models" / "plaza" / "3"
    tiny_video.two_cameras(tiny_video_model, folder, {"door": 0, "gate": 30})
    world.deploy(3)
    return world


def test_each_camera_is_judged_against_its_own_background(
    cameras: World, tiny_video: ModuleType, pictures: Pictures
) -> None:
    images = tiny_video.plaza(40)
    darker = images - 30
    for key, shown in (("door", images), ("gate", darker)):
        answer = ok(cameras.push(cameras.open(key), *pictures(shown)))
        expected = cameras.model().stream(key).push(shown, np.arange(40) == 0).scores
        assert column(answer, "score") == pytest.approx(expected, abs=1e-3)
        assert answer["threshold"] == pytest.approx(cameras.model().facts.view(key).threshold.enter)
        cameras.clock.advance(timedelta(minutes=11))
    strange = cameras.model().stream("gate").push(images, np.arange(40) == 0).scores
    known = cameras.model().stream("door").push(images, np.arange(40) == 0).scores
    assert np.abs(strange - known).max() > 0.1


def test_a_camera_that_several_were_learnt_without_is_refused_at_the_door(
    cameras: World, clip: Path, tiny_video: ModuleType
) -> None:
    before = cameras.stored()
    for body in ({"key": "park"}, {}):
        refused(cameras.client.post("/streams", json=body), 422, "door, gate", field="key")
    refused(cameras.send(clip, key="park"), 422, "door, gate", field="key")
    refused(cameras.send(clip), 422, "door, gate", field="key")
    assert cameras.stored() == before


def test_a_session_outlives_a_version_that_does_not_know_its_camera(
    world: World, tiny_video: ModuleType, tiny_video_model: Path, tmp_path: Path, pictures: Pictures
) -> None:
    images = tiny_video.plaza(12)
    stream = world.open("park")
    ok(world.push(stream, *pictures(images[:4])))
    tiny_video.two_cameras(tiny_video_model, tmp_path / "models" / "plaza" / "3", {"door": 0, "gate": 30})
    world.deploy(3)
    refused(world.push(stream, *pictures(images[4:8])), 422, "door, gate", field="key")
    world.deploy(1)
    assert column(ok(world.push(stream, *pictures(images[8:]))), "frame") == list(range(4, 8))


def test_one_file_sent_for_two_cameras_is_judged_by_each(
    cameras: World, tiny_video: ModuleType, tmp_path: Path
) -> None:
    dark = tiny_video.write_video(tmp_path / "dark.mp4", tiny_video.plaza(40) - 30)
    gate, door = ok(cameras.send(dark, key="gate")), ok(cameras.send(dark, key="door"))
    assert gate["video"]["name"] == door["video"]["name"]
    for body, key in ((gate, "gate"), (door, "door")):
        file = cameras.service.videos / body["video"]["name"]
        expected = cameras.model().score(read_frames(file), camera=key)
        assert column(body, "score") == pytest.approx(expected.scores, abs=1e-3)
    assert np.abs(np.array(column(gate, "score")) - column(door, "score")).max() > 0.1
    name = gate["video"]["name"]
    said = ok(cameras.client.post("/predict", json={"text": f"{name}#0-32~gate"}))
    assert said["predictions"][0]["label"] == gate["predictions"][0]["label"] == "0"
    refused(cameras.client.post("/predict", json={"text": f"{name}#0-32"}), 422, "door, gate", field="text")


# a camera that is followed


@pytest.fixture
def url(world: World, answering: Callable[[Any], AbstractContextManager[str]]) -> Iterator[str]:
    """The world's server at a real port."""
    with answering(make_server("127.0.0.1", 0, world.client.application, threaded=True)) as address:
        yield address


def test_a_camera_that_is_followed_is_answered_like_a_file_and_its_session_ends(
    world: World, url: str, clip: Path
) -> None:
    heard: list[Said] = []
    assert follow(read_frames(clip), HttpServer(url, "plaza"), "gate 3", heard.append) == 100
    assert [said.frame for said in heard] == list(range(100))
    whole: Timeline = world.model().score(read_frames(clip))
    assert [said.score for said in heard] == pytest.approx(whole.scores, abs=1e-3)
    assert [said.label for said in heard] == whole.labels.tolist()
    assert not len(world.service.streams)


def test_a_session_that_the_server_has_lost_is_begun_anew(world: World, url: str, clip: Path) -> None:
    heard: list[Said] = []

    def tell(said: Said) -> None:
        heard.append(said)
        if len(heard) == 30:
            world.clock.advance(timedelta(minutes=11))
            world.client.post("/streams", json={"key": "another"})  # drops those that were idle

    follow(read_frames(clip), HttpServer(url, "plaza"), "gate 3", tell, lambda seconds: None)
    assert [said.frame for said in heard] == list(range(100))


def test_what_the_server_refuses_is_said_in_its_words(world: World, url: str, clip: Path) -> None:
    with pytest.raises(Refused, match="models of video"):
        follow(read_frames(clip), HttpServer(url, "texts"), None, lambda said: None)
    with pytest.raises(NotFound, match="no model"):
        follow(read_frames(clip), HttpServer(url, "nobody"), None, lambda said: None)
    with pytest.raises(InvalidInput, match="has learnt 64 x 48"):
        follow(read_frames(clip, 32), HttpServer(url, "plaza"), None, lambda said: None)
    assert not len(world.service.streams)


def test_a_server_that_is_not_there_is_named_with_what_starts_it(clip: Path) -> None:
    with pytest.raises(BackendError, match="keepfit up"):
        follow(read_frames(clip), HttpServer("http://127.0.0.1:9", "plaza", connects=0), None, lambda said: None)
