"""How soon does somebody with a history see the first backtest, and how much memory does the import take?

    python -m benchmarks.history [--rows 20000 100000]

Each number of generated rows (texts of 3 to 80 words, probabilities, labels, times over a year, two versions; the
second one goes stale) is imported by `keepfit import-history` with its look back, and replayed by `keepfit backtest`,
each in a fresh process; once more it is imported without looking back. The encoder is the embedded MiniLM, and no
version is trained. Writes benchmarks/results/history.json; exits 1 when the memory of the import grows, or 100,000 rows
take over ten minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batch import reviews
from benchmarks.results import save, table

DAYS, TURN = 365, 0.6
LIMIT_S = 600.0
GROWTH = 1.2
"""Five times the rows may take this much of the import's memory."""
MB = 2**20


def write(file: Path, n: int) -> None:
    """n rows; from TURN on every third answer is wrong, before every twentieth."""
    rng = np.random.default_rng(7)
    end = datetime.now(UTC) - timedelta(hours=1)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "text", "p_negative", "p_positive", "label", "time", "version"])
        pairs = batched(reviews(2 * n, seed=3))  # classes in turn: of each pair one by lot
        for number, (text, label) in enumerate(pair[int(rng.integers(2))] for pair in pairs):
            stale = number >= TURN * n
            right = rng.random() > (0.33 if stale else 0.05)
            top = 0.5 + (0.25 if stale else 0.45) * rng.random()
            positive = top if (label == "positive") == right else 1 - top
            at = end - timedelta(days=DAYS) * (1 - number / n)
            version = "a" if number < n / 3 else "b"
            writer.writerow([number, text, round(1 - positive, 4), round(positive, 4), label, at.isoformat(), version])


def batched(texts: Iterator[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Two at a time."""
    return zip(texts, texts, strict=True)


def run(project: Path, *arguments: str) -> tuple[float, float, dict[str, Any]]:
    """Seconds, MB at most, and the JSON of a command in a process of its own."""
    code = (
        "import sys; from benchmarks.batch import peak_mb; from keepfit.app.cli import cli\n"
        "sys.argv = ['keepfit', *sys.argv[1:]]\n"
        "try:\n    cli(standalone_mode=False)\n"
        "finally:\n    print(peak_mb(), file=sys.stderr)"
    )
    began = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments, "--project", str(project), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return took, float(done.stderr.split()[-1]), json.loads(done.stdout)


def measure(n: int) -> dict[str, Any]:
    """One history of n rows."""
    with tempfile.TemporaryDirectory() as place:
        bare, folder, file = Path(place) / "bare", Path(place) / "project", Path(place) / "history.csv"
        for each in (bare, folder):
            each.mkdir()
            (each / "keepfit.toml").write_text("", "utf-8")
        write(file, n)
        rows_s, rows_mb, imported = run(bare, "import-history", str(file), "--looks", "0")
        look_s, look_mb, looked = run(folder, "import-history", str(file))
        test_s, test_mb, tested = run(folder, "backtest")
    assert imported["answers"] == looked["answers"] == n
    return {
        "rows": n, "import_s": round(rows_s, 1), "rows_a_s": round(n / rows_s), "import_mb": round(rows_mb),
        "with_look_back_s": round(look_s, 1), "look_back_mb": round(look_mb), "backtest_s": round(test_s, 1),
        "backtest_mb": round(test_mb), "all_s": round(look_s + test_s, 1),
        "alarm_after_turn_days": alarm_delay(looked), "recommended": tested["recommended"],
    }  # fmt: skip


def alarm_delay(looked: dict[str, Any]) -> float | None:
    """Days from the turn to the first alarm of harm."""
    if looked["alarm"] is None:
        return None
    first = datetime.fromisoformat(looked["plan"]["first"])
    delay = datetime.fromisoformat(looked["alarm"]["at"]) - (first + timedelta(days=DAYS) * TURN)
    return round(delay / timedelta(days=1), 1)


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    sizes = sorted(parser.parse_args().rows)
    found = [measure(n) for n in sizes]
    table("a history, from the file to the first backtest", found)
    grows = found[-1]["import_mb"] / found[0]["import_mb"]
    late = found[-1]["all_s"] > LIMIT_S
    save("history", {"sizes": found, "memory_growth": round(grows, 2), "limit_s": LIMIT_S})
    return 1 if late or grows > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
