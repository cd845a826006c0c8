"""A history out of a real PostgreSQL, embedded by the real encoder, and looked back on with labels that came late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from keepfit.app.project import Project
from keepfit.data.past_columns import PastColumns

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROWS = 3_000


def fill(url: str, first: int, last: int) -> None:
    """Answers number `first` to `last`, with times of a zone, and probabilities as jsonb."""
    start = datetime.now(UTC) - timedelta(days=30)
    with psycopg.connect(url) as other:
        other.execute(
            "CREATE TABLE IF NOT EXISTS answers (id bigint, body text, said text, probabilities jsonb, truth text, "
            "at timestamptz, known_at timestamptz)"
        )
        with other.cursor() as cursor, cursor.copy("COPY answers FROM STDIN") as copy:
            for n in range(first, last):
                good, right = n % 2 == 0, n % 17 > 0
                said, top = ("pos" if good == right else "neg"), 0.9 if right else 0.6
                rest = "neg" if said == "pos" else "pos"
                scores = f'{{"{said}": {top}, "{rest}": {round(1 - top, 1)}}}'
                at = start + timedelta(minutes=12 * n)
                truth = "pos" if good else "neg"
                text = f"the {'lovely' if good else 'broken'} kettle number {n}"
                copy.write_row((n, text, said, scores, truth, at, at + timedelta(days=1) if n % 2 else at))


def test_a_table_of_postgresql_is_imported_in_one_state_and_again(postgresql: str, tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n', "utf-8")
    project = Project(tmp_path, environ={})
    fill(postgresql, 0, ROWS)
    grown = []

    def grow(what: str, done: int, of: int | None) -> None:
        if what == "reading" and not grown:
            grown.append(of)
            fill(postgresql, ROWS, ROWS + 10)

    asked = {
        "url": postgresql, "query": "SELECT id, body, said, probabilities, truth, at, known_at FROM answers",
        "columns": PastColumns(label_time="known_at"),
    }  # fmt: skip
    done = project.import_history(**asked, looks=5, tell=grow)
    assert grown == [ROWS]
    assert done["answers"] == ROWS
    assert f"went from {ROWS} to {ROWS + 10} rows meanwhile" in done["notes"][0]
    assert done["plan"]["columns"]["text"] == ("body",)
    assert done["accuracy"][-1]["value"] == pytest.approx(16 / 17, abs=0.02)
    assert done["looks"] == 5
    again = project.import_history(**asked, looks=0)
    assert (again["answers"], again["labels"]) == (10, 10)
    project.close()


def test_the_encoder_embeds_what_no_version_has_answered(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n', "utf-8")
    project = Project(tmp_path, environ={})
    file = tmp_path / "past.csv"
    start = datetime.now(UTC) - timedelta(days=10)
    lines = [
        f"the {word} kettle,{word == 'lovely'},{word == 'lovely'},{(start + timedelta(minutes=n)).isoformat()}"
        for n, word in enumerate(["lovely", "broken"] * 150)
    ]  # fmt: skip
    file.write_text("text,prediction,label,time\n" + "\n".join(lines) + "\n", "utf-8")
    done = project.import_history(file=file, embed=True, looks=2)
    window = project.store.made_by(project.model, done["versions"]["elsewhere"])
    assert window.count == 300
    said = project.store.decisions(project.model, subject="trigger")[0].decision.evidence["measurements"]
    assert {"embedding_drift", "length"} <= {one["name"] for one in said}
    project.close()
