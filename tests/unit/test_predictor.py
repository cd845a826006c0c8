"""The predictor swaps versions as a whole, keeps the last ones warm, and records every answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Deployment, Traffic
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, KeepfitError
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.toy import ToyModel

LABELS = [f"v{number}" for number in range(1, 10)]


class Versions:
    """Loads toy models that answer `who` with their own number; a test may break some."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.broken: dict[int, Exception] = {}

    def __call__(self, number: int) -> ToyModel:
        if number in self.broken:
            raise self.broken[number]
        self.loaded.append(number)
        return ToyModel(LABELS, {"who": f"v{number}"}, [1 / len(LABELS)] * len(LABELS))


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        yield opened


@pytest.fixture
def writer(store: RecordStore) -> Iterator[RecordWriter]:
    made = RecordWriter(store)
    yield made
    made.close()


@pytest.fixture
def versions() -> Versions:
    return Versions()


Build = Callable[..., Predictor]


@pytest.fixture
def predictor(store: RecordStore, writer: RecordWriter, versions: Versions, clock: ManualClock) -> Iterator[Predictor]:
    made = Predictor("reviews", store, versions, writer, clock, "here")
    yield made
    made.close()


@pytest.fixture
def deploy(store: RecordStore, clock: ManualClock) -> Callable[..., Deployment]:
    def put(*versions: int) -> Deployment:
        clock.advance(timedelta(minutes=1))
        traffic = Traffic({version: 1 / len(versions) for version in versions})
        return store.deploy("reviews", traffic, Cause("me", "a test"), clock.now())

    return put


Deploy = Callable[..., Deployment]


def who(predictor: Predictor, **more: object) -> str:
    (answer,) = predictor.predict([Request("who", **more)])  # type: ignore[arg-type]
    assert answer.prediction.label == f"v{answer.prediction.model_version}", "version and content disagree"
    return answer.prediction.label


def test_before_a_deployment_it_says_so(predictor: Predictor) -> None:
    predictor.refresh()
    assert "keepfit train" in (predictor.ready() or "")
    with pytest.raises(BackendError, match="keepfit train"):
        who(predictor)


def test_a_deployment_is_served_and_noted_as_applied(
    predictor: Predictor, deploy: Deploy, store: RecordStore, clock: ManualClock
) -> None:
    deploy(1)
    assert predictor.refresh()
    assert who(predictor) == "v1"
    assert store.deployment("reviews").applied == (("here", clock.now()),)  # type: ignore[union-attr]
    assert predictor.ready() is None
    assert not predictor.refresh(), "nothing new"


def test_each_answer_is_recorded_with_its_example(
    predictor: Predictor, deploy: Deploy, store: RecordStore, writer: RecordWriter, clock: ManualClock
) -> None:
    deploy(1)
    predictor.refresh()
    earlier = clock.now() - timedelta(days=3)
    (answer,) = predictor.predict([Request("who knows", "mine", "user 7", earlier, {"shop": "north"})])
    writer.flush()
    example, stored = store.prediction("reviews", answer.prediction.id)
    assert (example.id, example.content, example.key, example.time) == ("mine", "who knows", "user 7", earlier)
    assert (stored.time, stored.context, stored.measures) == (
        clock.now(),
        {"shop": "north"},
        answer.prediction.measures,
    )


def test_a_text_that_comes_again_is_answered_from_the_cache_with_an_id_and_a_record_of_its_own(
    predictor: Predictor, deploy: Deploy, store: RecordStore, writer: RecordWriter
) -> None:
    deploy(1)
    predictor.refresh()
    first, second = (predictor.predict([Request("who")])[0].prediction for _ in range(2))
    writer.flush()
    assert (first.stage, second.stage) == ("model", "cache")
    assert first.id != second.id
    assert first.scores.tolist() == second.scores.tolist()
    assert store.prediction("reviews", second.id)[1].stage == "cache"


def test_the_cache_does_not_outlive_its_version(predictor: Predictor, deploy: Deploy) -> None:
    for version in (1, 2, 1):
        deploy(version)
        predictor.refresh()
        assert who(predictor) == f"v{version}"


def test_a_key_stays_with_its_version_and_both_versions_are_asked(predictor: Predictor, deploy: Deploy) -> None:
    deploy(1, 2)
    predictor.refresh()
    answers = {key: who(predictor, key=key) for key in (f"user {n}" for n in range(50))}
    assert set(answers.values()) == {"v1", "v2"}
    assert all(who(predictor, key=key) == answer for key, answer in answers.items())


def test_one_call_may_be_answered_by_two_versions_in_order(predictor: Predictor, deploy: Deploy) -> None:
    deploy(1, 2)
    predictor.refresh()
    answers = predictor.predict([Request("who", id=str(n), key=str(n)) for n in range(40)])
    assert [answer.prediction.example_id for answer in answers] == [str(n) for n in range(40)]
    assert all(answer.prediction.label == f"v{answer.prediction.model_version}" for answer in answers)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving_and_says_so(
    predictor: Predictor, deploy: Deploy, versions: Versions, store: RecordStore
) -> None:
    deploy(1)
    predictor.refresh()
    versions.broken[2] = RuntimeError("the file is damaged")
    deploy(2)
    assert not predictor.refresh()
    assert who(predictor) == "v1"
    assert "the file is damaged" in (predictor.ready() or "")
    assert store.deployment("reviews").applied == ()  # type: ignore[union-attr]
    with pytest.raises(BackendError, match="the file is damaged"):
        predictor.insist()
    versions.broken.clear()
    predictor.insist()
    assert who(predictor) == "v2"
    assert predictor.ready() is None


def test_a_store_that_is_away_leaves_the_old_version_serving(
    predictor: Predictor,
    deploy: Deploy,
    store: RecordStore,
    clock: ManualClock,
    versions: Versions,
    writer: RecordWriter,
) -> None:
    class Away(RecordStore):
        def __init__(self) -> None:
            super().__init__(store._db)
            self.away = False

        def deployment(self, model: str) -> Deployment | None:
            if self.away:
                raise BackendError("the database is locked")
            return super().deployment(model)

    away = Away()
    predictor = Predictor("reviews", away, versions, writer, clock)
    deploy(1)
    predictor.refresh()
    away.away = True
    assert not predictor.refresh()
    assert who(predictor) == "v1"
    assert "locked" in (predictor.ready() or "")
    away.away = False
    predictor.refresh()
    assert predictor.ready() is None
    predictor.close()


def test_the_last_two_versions_stay_warm_and_older_ones_are_unloaded(
    predictor: Predictor, deploy: Deploy, versions: Versions
) -> None:
    for version in (1, 2, 3, 4):
        deploy(version)
        predictor.refresh()
    assert predictor.warm() == (2, 3, 4)
    deploy(3)
    predictor.refresh()
    assert versions.loaded == [1, 2, 3, 4], "going back loads nothing"
    deploy(1)
    predictor.refresh()
    assert versions.loaded == [1, 2, 3, 4, 1]
    assert who(predictor) == "v1"


def test_going_back_to_a_warm_version_does_not_wait_for_one_that_is_loading(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock, versions: Versions
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def slow(number: int) -> ToyModel:
        if number == 3:
            entered.set()
            assert gate.wait(30)
        return versions(number)

    predictor = Predictor("reviews", store, slow, writer, clock)
    for version in (1, 2):
        deploy(version)
        predictor.refresh()
    deploy(3)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(predictor.refresh)
        assert entered.wait(30)
        back = deploy(1)
        predictor.insist()
        assert (who(predictor), predictor.live.deployment_id) == ("v1", back.id)
        gate.set()
        assert loading.result(30) is False, "what was loaded too late is not served"
    assert who(predictor) == "v1"
    predictor.close()


def test_a_new_version_is_warmed_with_what_was_asked_lately(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock
) -> None:
    seen: list[str] = []

    class Listening(ToyModel):
        def infer(self, prepared: Prepared) -> Output:
            seen.extend(prepared.items)
            return super().infer(prepared)

    predictor = Predictor("reviews", store, lambda _: Listening(["a", "b"], {}, [0.5, 0.5]), writer, clock)
    deploy(1)
    predictor.refresh()
    assert seen == ["warm"], "nothing was asked yet"
    predictor.predict([Request("lately")])
    writer.flush()
    seen.clear()
    deploy(2)
    predictor.refresh()
    assert "lately" in seen
    predictor.close()


def test_recent_contents_that_are_none_any_more_do_not_keep_a_version_from_being_served(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock
) -> None:
    class Forgetful(ToyModel):
        def infer(self, prepared: Prepared) -> Output:
            if "lost" in prepared.items:
                raise InvalidInput("it is gone", "video")
            return super().infer(prepared)

    seen = Predictor("reviews", store, lambda _: ToyModel(["a", "b"], {}, [0.5, 0.5]), writer, clock)
    deploy(1)
    seen.refresh()
    seen.predict([Request("lost")])
    writer.flush()
    predictor = Predictor("reviews", store, lambda _: Forgetful(["a", "b"], {}, [0.5, 0.5]), writer, clock)
    predictor.refresh()
    assert predictor.ready() is None
    with pytest.raises(InvalidInput, match="gone"):
        predictor.predict([Request("lost")])
    seen.close()
    predictor.close()


def test_a_model_that_warms_itself_is_not_asked_about_recent_contents(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock
) -> None:
    asked: list[str] = []

    class Listening(ToyModel):
        def infer(self, prepared: Prepared) -> Output:
            asked.extend(prepared.items)
            return super().infer(prepared)

    limits = ServingLimits(warm_up=0)
    predictor = Predictor(
        "reviews", store, lambda _: Listening(["a", "b"], {}, [0.5, 0.5]), writer, clock, limits=limits
    )
    deploy(1)
    predictor.refresh()
    predictor.predict([Request("lately")])
    writer.flush()
    deploy(2)
    predictor.refresh()
    assert asked == ["warm", "lately", "warm"]
    predictor.close()


def test_what_else_the_model_says_is_in_the_answer_also_from_the_cache(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock
) -> None:
    class Talkative(ToyModel):
        def infer(self, prepared: Prepared) -> Output:
            return replace(super().infer(prepared), details=[word.upper() for word in prepared.items])

    predictor = Predictor("reviews", store, lambda _: Talkative(["a", "b"], {}, [0.5, 0.5]), writer, clock)
    deploy(1)
    predictor.refresh()
    for stages in (["model", "model"], ["cache", "cache"]):
        answers = predictor.predict([Request("one"), Request("two")])
        assert [answer.details for answer in answers] == ["ONE", "TWO"]
        assert [answer.prediction.stage for answer in answers] == stages
    predictor.close()


def test_a_text_that_cannot_be_read_refuses_the_whole_call_and_names_it(
    predictor: Predictor, deploy: Deploy, store: RecordStore, writer: RecordWriter
) -> None:
    deploy(1)
    predictor.refresh()
    with pytest.raises(InvalidInput) as refused:
        predictor.predict([Request("who", field="text.0"), Request(5, field="text.1")])
    assert refused.value.field == "text.1"
    writer.flush()
    assert store.count_predictions("reviews") == 0


def test_a_model_that_is_unsure_abstains(
    store: RecordStore, writer: RecordWriter, deploy: Deploy, clock: ManualClock
) -> None:
    class Careful(ToyModel):
        @property
        def abstain_below(self) -> float | None:
            return 0.8

    predictor = Predictor("reviews", store, lambda _: Careful(["a", "b"], {"x": "a"}, [0.6, 0.4]), writer, clock)
    deploy(1)
    predictor.refresh()
    sure, unsure = predictor.predict([Request("x"), Request("y")])
    assert (sure.abstained, unsure.abstained) == (False, True)
    predictor.close()


def test_after_closing_requests_are_refused(predictor: Predictor, deploy: Deploy) -> None:
    deploy(1)
    predictor.refresh()
    predictor.close()
    with pytest.raises(BackendError, match="stopping"):
        who(predictor)


def test_under_load_no_swap_fails_or_mixes_an_answer(
    store: RecordStore, writer: RecordWriter, versions: Versions, deploy: Deploy, clock: ManualClock
) -> None:
    limits = ServingLimits(keep_warm=0)
    predictor = Predictor("reviews", store, versions, writer, clock, limits=limits)
    deploy(1)
    predictor.refresh()
    stop = threading.Event()

    def client(number: int) -> int:
        asked = 0
        while not stop.is_set():
            who(predictor, key=str(asked % 7 + number))
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        for swap in range(20):
            deploy(*((1, 2, 3)[swap % 3], 4 + swap % 2)[: 1 + swap % 2])
            assert predictor.refresh()
        stop.set()
        asked = [client.result(30) for client in clients]
    assert all(count > 0 for count in asked)
    predictor.close()


def test_the_refresher_notices_a_deployment_after_a_nudge(predictor: Predictor, deploy: Deploy) -> None:
    deploy(1)
    refresher = Refresher([predictor], interval_s=60)
    refresher.start()
    assert who(predictor) == "v1", "start brings up what is deployed"
    deployment = deploy(2)
    switched = threading.Event()
    refresher.nudge()
    for _ in range(1000):
        if predictor.live.deployment_id == deployment.id:
            break
        switched.wait(0.01)
    assert who(predictor) == "v2"
    refresher.close()
    assert refresher.ready() is None


def test_a_refresher_that_died_says_so(store: RecordStore, writer: RecordWriter, clock: ManualClock) -> None:
    class Broken(Predictor):
        def refresh(self) -> bool:
            if threading.current_thread() is threading.main_thread():
                return False
            raise ValueError("a bug")

    refresher = Refresher([Broken("reviews", store, Versions(), writer, clock)], interval_s=0.01)
    refresher.start()
    waited = threading.Event()
    for _ in range(1000):
        if refresher.ready() is not None:
            break
        waited.wait(0.01)
    assert "a bug" in (refresher.ready() or "")
    refresher.close()


def test_errors_of_loading_are_ours(predictor: Predictor, deploy: Deploy, versions: Versions) -> None:
    versions.broken[1] = BackendError("version 1 is not in this folder; fetch it")
    deploy(1)
    predictor.refresh()
    with pytest.raises(KeepfitError, match="fetch it"):
        who(predictor)
