"""The table of a backtest in a narrow terminal."""

from __future__ import annotations

from typing import Any

import pytest

from keepfit.app.commands.backtest import printed

ROW: dict[str, Any] = {
    "accuracy": 0.9, "retrainings": 12, "false_alarms": 3, "seconds": 23400.0, "cost": 658.0, "money": None,
    "refused": None, "more_than_best": [527.0, 667.0],
}  # fmt: skip
RESULT: dict[str, Any] = {
    "policies": [{"policy": "worth_it", **ROW}, {"policy": "new_labels:amount=153", **ROW}],
    "recommended": "worth_it", "price": {"mistakes": 16.7, "from": "assumed"}, "labelled": 460, "rows": 574,
    "scale": 2.087, "bounds": {"clairvoyant": {"cost": 33.0}, "causal": {"cost": 33.0}}, "because": [],
}  # fmt: skip


def test_the_recommended_policy_is_said_in_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed(RESULT)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("worth_it")]
    assert line.split()[-1] == "recommended"
