"""Triggers written into keepfit.toml by a program: comments stay, nothing else changes, or it is refused."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.app.settings_file import replaced, write_triggers
from keepfit.app.template import project_file
from keepfit.errors import Refused

VALUE = '[{kind = "worth_it"}, {kind = "on_demand"}]'
WANTED = [{"kind": "worth_it"}, {"kind": "on_demand"}]


def write(folder: Path, text: str) -> Path:
    (folder / "keepfit.toml").write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("task", ["text", "video"])
def test_in_the_file_that_init_writes_only_the_triggers_change(tmp_path: Path, task: str) -> None:
    before = project_file(task)
    write_triggers(write(tmp_path, before), "default", VALUE)
    after = (tmp_path / "keepfit.toml").read_text("utf-8")
    old, new = tomllib.loads(before), tomllib.loads(after)
    assert new["models"]["default"].pop("triggers") == WANTED
    old["models"]["default"].pop("triggers")
    assert new == old
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in after.splitlines() if line.startswith("#")] == comments


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[server]\nport = 1\n",
        "[models.default]\n",
        "[models.default]",
        "[models.default]\ntriggers = [\n  {kind = 'ks'}, # a ] here\n  {kind = 'on_event', kinds = ['a]']},\n]\n"
        "task = 'toy'\n",
        "[models.other]\ntask = 'toy'\n[[models.other.triggers]]\nkind = 'ks'\n",
        "[models.\"default\"]\ntask = 'toy'\n[models.default.watch]\nevery = '1m'\n",
        "[[models.default.triggers]]\nkind = 'ks'\n# between\n[server]\nport = 2\n",
    ],
)
def test_other_forms_are_changed_too(tmp_path: Path, text: str) -> None:
    write_triggers(write(tmp_path, text), "default", VALUE)
    after = tomllib.loads((tmp_path / "keepfit.toml").read_text("utf-8"))
    assert after["models"]["default"].pop("triggers") == WANTED
    before = tomllib.loads(text)
    before.setdefault("models", {}).setdefault("default", {}).pop("triggers", None)
    assert after == before


@pytest.mark.parametrize(
    "text",
    [
        "models.default.triggers = [{kind = 'ks'}]\n",
        "[models]\ndefault = {task = 'toy'}\n",
        "[[models.default.triggers]]\nkind = 'any_of'\n[[models.default.triggers.triggers]]\nkind = 'ks'\n",
        "[server\n",
    ],
)
def test_a_form_that_is_not_understood_is_refused_with_what_to_paste(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    with pytest.raises(Refused, match="triggers = "):
        write_triggers(tmp_path, "default", VALUE)
    assert (tmp_path / "keepfit.toml").read_text("utf-8") == text
    assert list(tmp_path.iterdir()) == [tmp_path / "keepfit.toml"]


@given(st.lists(st.sampled_from(["[models.a]", "[server]", "triggers = []", "# c", "task = 'toy'", ""]), max_size=8))
def test_it_never_raises_anything_else(lines: list[str]) -> None:
    replaced("\n".join(lines), "a", VALUE)


def test_rights_line_ends_and_a_link_stay_as_they_are(tmp_path: Path) -> None:
    kept = tmp_path / "kept.toml"
    kept.write_bytes(b"[models.default] # ours\r\ntask = 'toy'\r\n[server]\r\nport = 1\r\n")
    kept.chmod(0o600)
    project = tmp_path / "project"
    project.mkdir()
    (project / "keepfit.toml").symlink_to(kept)
    assert write_triggers(project, "default", VALUE) == project / "keepfit.toml"
    assert (project / "keepfit.toml").is_symlink()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    lines = kept.read_bytes().split(b"\r\n")
    assert lines == [
        b"[models.default] # ours", f"triggers = {VALUE}".encode(), b"task = 'toy'", b"[server]", b"port = 1", b"",
    ]  # fmt: skip
