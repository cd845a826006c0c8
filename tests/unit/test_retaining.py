"""The settings of retention, and the daily pruning of the worker."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
import pytest

from keepfit.app.retaining import Daily, daily, policy_of, prune
from keepfit.app.settings import RetentionSettings, load
from keepfit.app.wiring import Home, open_registry, open_store
from keepfit.clock import ManualClock
from keepfit.data.records import Job, JobState
from keepfit.data.retention import Keep
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, SettingsError
from keepfit.pipelines.overdue import Policy
from keepfit.training.studies import studies

DAY = timedelta(days=1)


def project(folder: Path, text: str, clock: ManualClock) -> Home:
    (folder / "keepfit.toml").write_text(f'tracking = "local"\n{text}', "utf-8")
    return Home(folder, load(folder, {}), clock)


def letter(home: Home, name: str, age: timedelta) -> Path:
    file = home.mailbox / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hello", "utf-8")
    moment = (home.clock.now() - age).timestamp()
    os.utime(file, (moment, moment))
    return file


def done(beat: Daily) -> None:
    assert beat.thread is not None
    beat.thread.join(30)
    assert not beat.thread.is_alive()


def test_by_default_only_what_trainings_have_left_goes() -> None:
    assert policy_of(RetentionSettings()) == Policy(checkpoints=Keep(7 * DAY))


def test_every_limit_that_is_set_is_heeded() -> None:
    kinds = ("predictions", "versions", "snapshots", "checkpoints", "runs", "videos", "batches", "alerts")
    limits = {f"{kind}_for": f"{n}d" for n, kind in enumerate(kinds, 1)} | {f"{kind}_most": 9 for kind in kinds}
    policy = policy_of(RetentionSettings.model_validate({**limits, "quiet_checks_for": "20d"}))
    assert policy == Policy(*(Keep(n * DAY, 9) for n in (1, 2, 3, 4, 5, 6, 7, 8)), 20 * DAY)
    assert {f"{kind}_{how}" for kind in kinds for how in ("for", "most")} | {"quiet_checks_for"} == set(
        RetentionSettings.model_fields
    )


@pytest.mark.parametrize("line", ['alerts_for = "-3d"', "alerts_for = -3", "alerts_most = -1", "alert_most = 1"])
def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="alert"):
        project(tmp_path, f"[retention]\n{line}\n", ManualClock())


def test_the_worker_prunes_once_a_day_when_nothing_is_under_way(tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC))
    home = project(tmp_path, '[retention]\nalerts_for = "1d"\n[models.default]\ntask = "toy"\n', clock)
    with open_store(home) as store:
        beat = daily(home, store, open_registry(home))
        first = letter(home, "1.eml", 3 * DAY)
        store.add_job(Job("j", "default", "retrain", clock.now()))
        beat()
        assert first.exists()
        store.update_job("j", state=JobState.DONE)
        beat()
        done(beat)
        assert not first.exists()
        second = letter(home, "2.eml", 3 * DAY)
        beat()
        assert second.exists(), "once a day"
        clock.advance(DAY)
        another = daily(home, store, open_registry(home))
        another()
        done(another)
        assert not second.exists()
        assert [d.decision.evidence["actor"] for d in store.decisions("default", "prune")] == ["keepfit", "keepfit"]


def test_monitors_look_back_as_far_as_the_settings_say(tmp_path: Path) -> None:
    text = (
        '[models.a.watch]\nwindow = "3d"\nlabel_window = "2d"\n[models.b]\nlabels = "complete"\nsettle_after = "60d"\n'
    )
    home = project(tmp_path, text, ManualClock())
    with open_store(home) as store:
        looks_back = prune(home, store, open_registry(home)).overdue.looks_back
        assert [looks_back(name) for name in ("a", "b", "gone")] == [3 * DAY, 60 * DAY, 0 * DAY]


def test_a_model_that_the_settings_no_longer_name_is_still_held_to_the_rules(tmp_path: Path) -> None:
    home = project(tmp_path, '[models.new]\ntask = "toy"\n', ManualClock())
    with open_store(home) as store:
        store.put("old", "snapshot", "x")
        overdue = prune(home, store, open_registry(home)).overdue
        assert overdue.all_models() == ["new", "old"]


def test_the_trials_of_old_searches_go(tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC))
    home = project(tmp_path, '[models.default]\ntask = "toy"\n', clock)
    with open_store(home) as store:
        storage = optuna.storages.RDBStorage(home.tuning_url)
        for name in ("old", "young"):
            study = optuna.create_study(storage=storage, study_name=name)
            study.tell(study.ask(), 0.5)
        storage.remove_session()
        storage.engine.dispose()
        pruning = prune(home, store, open_registry(home))
        assert pruning.run("ann").gone == ()
        clock.advance(8 * DAY)
        assert {one.thing.name for one in pruning.run("ann").gone} == {"old", "young"}
        assert list(studies(home.tuning_url)) == []
        assert pruning.run("ann").gone == ()


def test_a_pruning_that_fails_is_logged_and_tried_again_tomorrow(
    tmp_path: Path, store_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken() -> None:
        calls.append(clock.now())
        raise BackendError("the disk is away")

    with RecordStore.open(store_url) as store:
        beat = Daily(store, clock, broken)
        for _ in range(2):
            beat()
            done(beat)
        assert len(calls) == 1
        assert "the disk is away" in caplog.text
        clock.advance(DAY)
        beat()
        done(beat)
    assert len(calls) == 2
