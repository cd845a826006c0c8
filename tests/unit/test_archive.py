"""The form of a backup: whole or refused, and no half one under its name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfit.data.archive import ABOUT, FORMAT, MANIFEST, FolderSink, writing
from keepfit.data.unpacking import about, unpack
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused

KINDS = ("b.tar.zst", "b.tar.gz", "b.tgz", "b.tar", "folder")


def written(target: Path, source: Path) -> Path:
    source.mkdir(exist_ok=True)
    (source / "a.bin").write_bytes(bytes(range(256)) * 5000)
    (source / "b.txt").write_text("words", "utf-8")
    with writing(target) as (into, _):
        into.add_json(ABOUT, {"format": 1})
        into.add_file("state/a.bin", source / "a.bin")
        into.add_file("state/deep/b.txt", source / "b.txt")
        into.finish({"format": 1})
    return target


@pytest.mark.parametrize("name", KINDS)
def test_what_was_written_is_unpacked_and_verified(tmp_path: Path, name: str) -> None:
    made = written(tmp_path / name, tmp_path / "source")
    assert about(made) == {"format": 1}
    manifest = unpack(made, tmp_path / "out")
    assert set(manifest["files"]) == {ABOUT, "state/a.bin", "state/deep/b.txt"}
    assert (tmp_path / "out/state/a.bin").read_bytes() == (tmp_path / "source/a.bin").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({name, "source", "out"}), "nothing is left beside it"


def twice(target: Path, source: Path, format: int = FORMAT) -> Path:
    """A backup of two files of the same content, and one of the same size."""
    source.mkdir(exist_ok=True)
    content = np.random.default_rng(3).bytes(100_000)
    for name, data in (("first", content), ("second", content), ("other", content[::-1])):
        (source / name).write_bytes(data)
    with writing(target) as (into, _):
        into.add_json(ABOUT, {"format": format})
        for name in ("first", "other", "second"):
            into.add_file(f"state/{name}", source / name)
        into.finish({"format": format})
    return target


@pytest.mark.parametrize("name", KINDS)
def test_the_same_content_is_stored_once_and_unpacked_to_files_of_their_own(tmp_path: Path, name: str) -> None:
    made = twice(tmp_path / name, tmp_path / "source")
    parts = [made] if made.is_file() else [path for path in made.rglob("*") if path.is_file()]
    inodes = {path.stat().st_ino: path.stat().st_size for path in parts}
    assert 200_000 < sum(inodes.values()) < 230_000
    manifest = unpack(made, tmp_path / "out")
    assert manifest["files"]["state/second"] == manifest["files"]["state/first"] != manifest["files"]["state/other"]
    for one in ("first", "second", "other"):
        assert (tmp_path / "out/state" / one).read_bytes() == (tmp_path / "source" / one).read_bytes()
        assert (tmp_path / "out/state" / one).stat().st_nlink == 1


def test_tar_unpacks_what_is_stored_once(tmp_path: Path) -> None:
    made = twice(tmp_path / "b.tar.gz", tmp_path / "source")
    with tarfile.open(made) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert (tmp_path / "out/state/second").read_bytes() == (tmp_path / "source/second").read_bytes()


def test_a_backup_of_the_first_form_is_unpacked_as_before(tmp_path: Path) -> None:
    """It has each file as often as there are names for it."""
    content = b"the same words " * 1000
    manifest: dict[str, Any] = {"format": 1, "files": {}}
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for name in (ABOUT, "state/first", "state/second", MANIFEST):
            documents = {ABOUT: {"format": 1}, MANIFEST: manifest}
            data = json.dumps(documents[name]).encode() if name in documents else content
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    assert unpack(tmp_path / "b.tar", tmp_path / "out")["format"] == 1
    assert (tmp_path / "out/state/second").read_bytes() == content


@pytest.mark.parametrize("first", ["/etc/hostname", "../secret", "state/later", "state/link"])
def test_a_link_to_anything_but_an_earlier_file_of_the_backup_is_refused(tmp_path: Path, first: str) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        entry = tarfile.TarInfo("state/link")
        entry.type, entry.linkname = tarfile.LNKTYPE, first
        tar.addfile(entry)
        tar.addfile(tarfile.TarInfo("state/later"))
    with pytest.raises(InvalidInput, match="which is not before it"):
        unpack(tmp_path / "b.tar", tmp_path / "out")


def test_a_disk_without_links_gets_the_content_again(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    sink.add("first", io.BytesIO(b"words"), 5)
    (tmp_path / "second").write_bytes(b"old")  # a link cannot be made where a file is, nor on such a disk
    sink.link("second", "first")
    assert (tmp_path / "second").read_bytes() == b"words"


@pytest.mark.parametrize("name", KINDS)
def test_only_its_owner_may_read_it(tmp_path: Path, name: str) -> None:
    assert written(tmp_path / name, tmp_path / "source").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["b.tar.zst", "b.tar.gz", "b.tar"])
def test_a_backup_without_its_end_is_refused(tmp_path: Path, name: str) -> None:
    made = written(tmp_path / name, tmp_path / "source")
    made.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    with pytest.raises(InvalidInput, match=r"not whole|became|is damaged"):
        unpack(made, tmp_path / "out")


def test_a_changed_byte_a_missing_and_a_strange_file_are_named(tmp_path: Path) -> None:
    made = written(tmp_path / "folder", tmp_path / "source")
    (made / "state/deep/b.txt").write_text("wards", "utf-8")
    with pytest.raises(InvalidInput, match=r"state/deep/b\.txt changed"):
        unpack(made, tmp_path / "one")
    (made / "state/deep/b.txt").unlink()
    with pytest.raises(InvalidInput, match=r"state/deep/b\.txt is missing"):
        unpack(made, tmp_path / "two")
    (made / "state/deep/b.txt").write_text("words", "utf-8")
    (made / "state/more").write_text("", "utf-8")
    with pytest.raises(InvalidInput, match="state/more is not in its manifest"):
        unpack(made, tmp_path / "three")


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "state/../../out.txt", "state\\out.txt"])
def test_a_file_that_leads_out_of_the_project_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        entry = tarfile.TarInfo(name)
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(InvalidInput, match="outside of the project"):
        unpack(tmp_path / "b.tar", tmp_path / "out")
    assert list((tmp_path).iterdir()) == [tmp_path / "b.tar"]


def test_a_link_in_a_backup_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        entry = tarfile.TarInfo("state/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(InvalidInput, match="no plain file"):
        unpack(tmp_path / "b.tar", tmp_path / "out")


def test_other_files_are_no_backups(tmp_path: Path) -> None:
    (tmp_path / "x.tar.zst").write_text("no", "utf-8")
    with pytest.raises(InvalidInput, match="cannot be read as a backup"):
        about(tmp_path / "x.tar.zst")
    with pytest.raises(NotFound, match="there is no backup"):
        about(tmp_path / "y.tar.zst")
    with tarfile.open(tmp_path / "z.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("hello"), io.BytesIO())
    with pytest.raises(InvalidInput, match="is no backup of keepfit"):
        about(tmp_path / "z.tar")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("stopped", [KeyboardInterrupt, BackendError])
def test_what_is_stopped_leaves_nothing(tmp_path: Path, name: str, stopped: type[BaseException]) -> None:
    def stop() -> None:
        with writing(tmp_path / name) as (into, beside):
            (beside / "copy.db").write_text("half", "utf-8")
            into.add_text("state/a", "words")
            raise stopped

    with pytest.raises(stopped):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_has_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".b.tar.part").write_text("half", "utf-8")
    (tmp_path / ".b.tar.databases").mkdir()
    written(tmp_path / "b.tar", tmp_path / "source")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "source"]


def test_an_earlier_backup_is_not_overwritten(tmp_path: Path) -> None:
    made = written(tmp_path / "b.tar", tmp_path / "source")
    with pytest.raises(Refused, match="exists already"):
        written(made, tmp_path / "source")


def test_a_file_that_grows_or_goes_meanwhile_is_taken_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    with writing(tmp_path / "b.tar") as (into, _):
        assert not into.add_file("state/gone", tmp_path / "gone")
        manifest = into.finish({"format": 1})
    assert manifest["files"] == {}
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == [MANIFEST]
