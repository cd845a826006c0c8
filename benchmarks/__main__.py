"""Every benchmark that needs no data from elsewhere: `make bench`; `benchmarks.imdb` takes KEEPFIT_DATA."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "swap", "crash", "batch", "warm", "rollout", "decisions.harm", "decisions.peers", "decisions.inputs",
    "decisions.promotion",
)  # fmt: skip

if __name__ == "__main__":
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in ALL]
    sys.exit(max(codes))
