"""State that an earlier release has left: after the upgrade it is checked, retrained and answered from as before."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, insert, select
from sqlalchemy.types import Boolean, Float, LargeBinary, Text

from keepfit.app.project import Project
from keepfit.data.audit import BEGAN
from keepfit.data.records import Example, Label, Prediction, Source
from keepfit.data.upgrading import HEAD, VERSION_TABLE, alembic_config, migrate, version_of
from keepfit.decision import Outcome

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.gate.invariances]
case = 0.1
"""
REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of this release with a version, answers and labels."""
    folder = tmp_path_factory.mktemp("lived")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(folder)
    project.train(folder / "data.csv")
    now, store = project.home.clock.now(), project.store
    scores, embedding = np.array([0.1, 0.9], np.float32), np.zeros(8, np.float32)
    for i in range(40):
        example = Example(f"fine day {i}", now, f"e{i}")
        store.add_predictions(MODEL, [(example, Prediction(example.id, 1, ("neg", "pos"), scores, embedding, now))])
        store.add_labels(MODEL, [Label(example.id, "neg", now, Source.COMPLETE, "ann")])
    project.close()
    return folder


def reflected(conn: Connection) -> MetaData:
    found = MetaData()
    found.reflect(conn)
    return found


def as_of(revision: str, lived: Path, folder: Path) -> Path:
    """The project as the release with this schema would have left it: what that schema has a place for."""
    shutil.copytree(lived, folder)
    file = folder / ".keepfit/keepfit.db"
    file.unlink()
    for beside in file.parent.glob("keepfit.db-*"):
        beside.unlink()
    now, then = create_engine(f"sqlite:///{lived / '.keepfit/keepfit.db'}"), create_engine(f"sqlite:///{file}")
    with now.connect() as reading, then.begin() as conn:
        migrate(conn, revision)
        old = reflected(conn)
        for name, table in reflected(reading).tables.items():
            if name in old.tables and name != VERSION_TABLE:
                columns = [table.c[c.name] for c in old.tables[name].columns]
                for row in reading.execute(select(*columns)).mappings():
                    conn.execute(insert(old.tables[name]), dict(row))
        if "keepfit_audit" not in old.tables:  # that release knew of no chain, so it did not note its beginning
            conn.execute(old.tables["keepfit_values"].delete().where(old.tables["keepfit_values"].c.name == BEGAN))
        assert version_of(conn) == revision
    now.dispose()
    then.dispose()
    return folder


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_project_of_each_earlier_schema_is_checked_and_retrained(revision: str, lived: Path, tmp_path: Path) -> None:
    project = Project(as_of(revision, lived, tmp_path / "old"))
    assert project.champion() == 1
    decision = project.check()
    assert decision.outcome in {Outcome.FIRE, Outcome.WAIT, Outcome.HOLD}
    result = project.retrain(wait=True)
    assert result["version"] == 2
    assert [v.number for v in project.models()] == [2, 1]
    assert project.store.verify_audit().whole
    with project.store.database.read() as conn:
        assert version_of(conn) == HEAD
    project.close()


def made_up(column) -> object:
    """A value that fits a column."""
    kind = column.type
    if isinstance(kind, Text):
        return "x"
    if isinstance(kind, LargeBinary):
        return b"x"
    return False if isinstance(kind, Boolean) else 0.5 if isinstance(kind, Float) else 1


@pytest.mark.parametrize(("old", "new"), list(pairwise(REVISIONS)))
def test_a_server_of_the_release_before_can_still_write_so_that_servers_are_upgraded_one_by_one(
    old: str, new: str, tmp_path: Path
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'shared.db'}")
    with engine.begin() as conn:
        migrate(conn, old)
        before = reflected(conn)
        migrate(conn, new)
        after = reflected(conn)
        for name, table in before.tables.items():
            assert name in after.tables, f"migration {new} drops {name}: old servers still use it"
            gone = {c.name for c in table.columns} - {c.name for c in after.tables[name].columns}
            assert not gone, f"migration {new} drops {gone} of {name}: old servers still use it"
            if name != VERSION_TABLE:
                conn.execute(insert(table), {c.name: made_up(c) for c in table.columns})
                conn.execute(select(table)).all()
    engine.dispose()


def test_a_migration_that_is_not_additive_would_be_found(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'shared.db'}")
    with engine.begin() as conn:
        migrate(conn, HEAD)
        before = reflected(conn).tables["keepfit_label_sets"]
        conn.exec_driver_sql("ALTER TABLE keepfit_label_sets ADD COLUMN more TEXT NOT NULL DEFAULT ''")
        conn.execute(insert(before), {c.name: made_up(c) for c in before.columns})
        conn.exec_driver_sql("CREATE TABLE strict (id TEXT, more TEXT NOT NULL)")
        with pytest.raises(Exception, match="NOT NULL"):
            conn.exec_driver_sql("INSERT INTO strict (id) VALUES ('x')")
    engine.dispose()
