"""Limits that cannot work are refused where they are written."""

from __future__ import annotations

import pytest

from keepfit.errors import SettingsError
from keepfit.serving.limits import ServingLimits


@pytest.mark.parametrize(
    "wrong", [{"batch_cost": 0}, {"queue_items": 0}, {"timeout_s": 0}, {"cache_bytes": -1}, {"keep_warm": -1}]
)
def test_limits_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        ServingLimits(**wrong)
