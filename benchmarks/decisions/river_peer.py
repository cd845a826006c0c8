"""Runs in river's own environment: one detector over streams of mistakes; prints at which labels it alarmed, as JSON.

python river_peer.py NAME PARAMETERS STREAMS.npy
"""

import json
import sys

import numpy as np
from river import drift
from river.drift import binary

KINDS = {
    "ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley, "KSWIN": drift.KSWIN, "DDM": binary.DDM,
    "EDDM": binary.EDDM, "HDDM_A": binary.HDDMA, "HDDM_W": binary.HDDMW, "Dummy": drift.DummyDriftDetector,
}  # fmt: skip


def main() -> None:
    name, parameters, file = sys.argv[1:]
    found = []
    for stream in np.load(file, allow_pickle=False).tolist():
        detector, alarms = KINDS[name](**json.loads(parameters)), []
        for place, wrong in enumerate(stream):
            detector.update(wrong)
            if detector.drift_detected:
                alarms.append(place)
        found.append(alarms)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
