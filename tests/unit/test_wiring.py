"""What the table of late imports names is there."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from keepfit.app.wiring import LATE, named


@pytest.mark.parametrize("entry", sorted(LATE))
def test_every_late_entry_names_something_that_is_there(entry: str) -> None:
    module = LATE[entry].partition(":")[0]
    assert find_spec(module) is not None
    assert named(LATE[entry]) is not None
