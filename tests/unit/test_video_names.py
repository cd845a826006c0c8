"""The names of videos and pictures that callers send lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfit.tasks.video.intake import file_name


class Sent:
    """A part of a request."""

    def __init__(self, filename: str) -> None:
        self.filename = filename

    def save(self, dst: Path, /) -> None:
        raise AssertionError("only its name is of interest")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x.mp4", "/etc/x.mp4", "..\\x.mp4", "C:\\x.mp4", "a/../../x.mp4", "\u2025\u2215x.mp4",
        "\uff0e\uff0e\uff0fx.mp4", "nul\x00l.mp4", "x" * 5000 + ".mp4", "..", ".", "", "-rf.mp4", ".hidden.mp4",
        "x.mp4\r\nEvil: 1",
    ],
)  # fmt: skip
def test_a_videos_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    safe = file_name(Sent(name), "video")
    assert (tmp_path / safe).resolve().parent == tmp_path.resolve()
    assert safe.isascii()
    assert safe.isprintable()
    assert 0 < len(safe) <= 80
    assert safe[0] not in ".-"
