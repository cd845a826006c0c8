from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.app.settings import load
from keepfit.app.template import project_file
from keepfit.errors import NotFound, SettingsError


def write(folder: Path, text: str) -> Path:
    (folder / "keepfit.toml").write_text(text, "utf-8")
    return folder


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert settings.server.host == "127.0.0.1"
    assert settings.model(None)[0] == "default"


def test_the_file_that_init_writes_is_valid_and_changes_no_default(tmp_path: Path) -> None:
    assert load(write(tmp_path, project_file("text")), {}) == load(tmp_path / "elsewhere", {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "[server]\nport = 1000\n"), {"KEEPFIT_SERVER__PORT": "9000"})
    assert settings.server.port == 9000


def test_a_model_is_overridden_by_its_name(tmp_path: Path) -> None:
    settings = load(tmp_path, {"KEEPFIT_MODELS__SPAM__WATCH__EVERY": "90s"})
    assert settings.models["spam"].watch.every == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", "did you mean 'port'"),
        ("serverr = 1\n", "did you mean 'server'"),
        ("[models.a.watch]\nlabel_rat = 0.1\n", "did you mean 'label_rate'"),
        ("[models.a]\nlables = 'complete'\n", "did you mean 'labels'"),
        ("[models.a.recipe]\nepoch = 1\n", "did you mean 'epochs'"),
        ("[alerts.email]\nuser='a'\npassword='b'\nto=['c']\nhots='x'\n", "did you mean 'host'"),
        ("[server]\nport = 'many'\n", "server.port"),
        ("[models.a.watch]\nevery = 'soon'\n", "write a duration"),
        ("[models.a.watch.label_parts]\nuniform = 1.0\n", "must add up to 1"),
        ("[models.a.watch]\nlabel_parts = {uniform=0, disagreement=0.5, uncertain=0.5}\n", "greater than 0"),
        ("[models.a.watch]\naudit_rate = 0.01\n", 'concerns labels = "complete" alone'),
        ("[models.a]\nlabels='complete'\nwatch={audit_rate=0.01, label_rate=0.1}\n", "takes the place of label_rate"),
        ("[models.a.rollout]\nstrategy='shadow'\nmargin=0.01\nbetter_by=0.01\n", "not both"),
        ("[models.a.rollout]\nstrategy='blue_green'\nbetter_by=0.01\n", "does not concern"),
        ("timezone = 'Mars/Base'\n", "no time zone"),
        ("[server\n", "not valid TOML"),
        ("[models.'a b']\n", "no model name"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(write(tmp_path, text), {})


def test_a_wrong_setting_in_the_environment_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'port'"):
        load(tmp_path, {"KEEPFIT_SERVER__PROT": "1"})


def test_secrets_come_from_the_environment_or_a_file_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_PASSWORD", "hush")
    (tmp_path / "url").write_text("json://localhost/hush\n", "utf-8")
    text = f"""
[alerts]
urls = ["file:{tmp_path / "url"}"]
[alerts.email]
user = "me"
password = "env:THE_PASSWORD"
to = ["you@example.com"]
"""
    alerts = load(write(tmp_path, text), {}).alerts
    assert alerts.email is not None
    assert alerts.email.password.get_secret_value() == "hush"
    assert alerts.urls[0].get_secret_value() == "json://localhost/hush"
    assert "hush" not in repr(alerts)


def test_a_missing_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NOT_SET_ANYWHERE is not set"):
        load(write(tmp_path, "[alerts]\nurls = ['env:NOT_SET_ANYWHERE']\n"), {})


def test_an_unknown_model_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has default"):
        load(tmp_path, {}).model("other")


@pytest.mark.parametrize(
    ("rule", "words"),
    [('kind = "acuracy_floor"', "accuracy_floor"), ('kind = "accuracy_floor"\nflor = 0.9', "'floor'")],
)
def test_a_misspelt_trigger_is_refused_with_the_nearest_name(tmp_path: Path, rule: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(write(tmp_path, f"[[models.default.triggers]]\n{rule}\n"), {})


def test_what_a_text_model_needs_is_refused_for_video_and_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="max_tokens"):
        load(write(tmp_path, '[models.default]\ntask = "video"\nrecipe = { max_tokens = 128 }\n'), {})
    with pytest.raises(SettingsError, match=r"recipe\.video"):
        load(write(tmp_path, "[models.default]\nrecipe = { video = { steps = 3 } }\n"), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("monthly_budget = 10", "without a price"),
        ("currency = 'USD'", "without a price"),
        ("per_cpu_hour = 0.1\nenforce = true", "need monthly_budget"),
        ("per_cpu_hour = 0.1\nwarn_at = [0.5]", "need monthly_budget"),
        ("per_cpu_hour = -1", "per_cpu_hour"),
        ("per_cpu = 1", "did you mean 'per_cpu_hour'"),
    ],
)
def test_a_setting_of_costs_that_nothing_would_come_of_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(write(tmp_path, f"[costs]\n{text}\n"), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.a.prices]\nmistake = 2.0\n", "a mistake costs 1"),
        ("[models.a.prices]\ncurrency = 'seconds'\n", "set mistake"),
        ("[models.a.prices]\ncurrency = 'seconds'\nmistake = 5\nhour = 3\n", "leave hour out"),
        ("[models.a.prices]\ncurrency = 'money'\nmistake = 5\n", "needs one price"),
        ("[costs]\nper_cpu_hour = 1\n[models.a.prices]\ncurrency = 'money'\nmistake = 5\nhour = 1\n", "one price"),
        ("[models.a.prices]\nlabel = 1\n", "set labels"),
        ("[models.a.prices]\ncurency = 'money'\n", "did you mean 'currency'"),
    ],
)
def test_prices_that_contradict_each_other_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(write(tmp_path, text), {})


def test_prices_in_each_currency_are_taken(tmp_path: Path) -> None:
    text = "[costs]\nper_cpu_hour = 1\n[models.a.prices]\ncurrency = 'money'\nmistake = 0.5\n"
    assert load(write(tmp_path, text), {}).models["a"].prices.mistake == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('task = "video"\ncascade = { keeps = "accuracy" }', "cascade does not concern"),
        ("cascade = { loss = 0.01 }", "loss has no use while keeps is"),
        ('cascade = { keeps = "agreement", loss = 0.01 }', "loss has no use where keeps is"),
        ('cascade = { keeps = "accuracy", differing = 0.01 }', "differing has no use"),
        ('cascade = { keeps = "speed" }', "cascade.keeps"),
        ('cascade = { keep = "accuracy" }', "did you mean 'keeps'"),
    ],
)
def test_a_setting_of_the_cascade_that_cannot_be_honoured_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(write(tmp_path, f"[models.default]\n{text}\n"), {})


def test_the_cascade_is_off_unless_it_is_set(tmp_path: Path) -> None:
    assert load(tmp_path, {}).model(None)[1].cascade.plan() is None
    text = '[models.default]\ncascade = { keeps = "agreement", differing = 0.01, control = 0.1 }\n'
    plan = load(write(tmp_path, text), {}).model(None)[1].cascade.plan()
    assert plan is not None
    assert (plan.terms.keeps, plan.terms.most, plan.control) == ("agreement", 0.01, 0.1)
