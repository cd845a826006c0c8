"""Several processes search together: no recipe is tried twice, all come to the same, and the dead are replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from keepfit.training.sharing import PULSE, SHARE, Others, alive

SEARCHER = """
import json, sys, time
from pathlib import Path
from keepfit.training.recipe import Recipe
from keepfit.training.space import Space
from keepfit.training.tuning import Search, tune

url, folder, share, kind = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
tried = []

def learn(recipe, report):
    tried.append(recipe.hash)
    (folder / share).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:  # nobody ends before both have begun
        assert time.monotonic() < until
        time.sleep(0.01)
    return abs(recipe.learning_rate - 5e-5)

space = Space.around(Recipe(), kind, ("learning_rate", "batch_size", "epochs"), 4.0)
found = tune(learn, space, Search(kind, 8, share=share), url, "study", lambda metrics, step: None)
print(json.dumps({"tried": tried, "best": found.best.hash, "trials": [t.recipe.hash for t in found.trials]}))
"""


@pytest.mark.parametrize("kind", ["tpe", "grid"])
def test_two_processes_share_the_trials_of_one_search(tmp_path: Path, kind: str) -> None:
    (tmp_path / "began").mkdir()
    url = f"sqlite:///{tmp_path / 'tuning.db'}"
    command = [sys.executable, "-c", SEARCHER, url, str(tmp_path / "began")]
    running = [
        subprocess.Popen([*command, share, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for share in ("one", "two")
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(err for _, err in said)
    one, two = (json.loads(out) for out, _ in said)
    assert one["tried"], "each had its part"
    assert two["tried"], "each had its part"
    assert sorted(one["tried"] + two["tried"]) == sorted(one["trials"])
    assert len(set(one["trials"])) == 8
    assert (one["best"], one["trials"]) == (two["best"], two["trials"])


def test_a_trial_whose_process_died_is_given_up_and_one_that_lives_is_not() -> None:
    study, now = optuna.create_study(), [0.0]
    dead, living, own = study.ask(), study.ask(), study.ask()
    dead.set_user_attr(SHARE, "killed")
    living.set_user_attr(SHARE, "slow")
    own.set_user_attr(SHARE, "me")
    others = Others("me", dead_after=90.0, clock=lambda: now[0])
    for beat in range(4):
        now[0] += 40.0
        living.set_user_attr(PULSE, beat)
        running = [trial.number for trial in others.running(study)]
        assert running == ([dead.number, living.number] if beat < 3 else [living.number])
    assert study.trials[dead.number].state is TrialState.FAIL
    assert study.trials[own.number].state is TrialState.RUNNING


def test_a_trial_says_that_it_is_alive_while_it_is_learnt() -> None:
    study = optuna.create_study()
    trial = study.ask()
    with alive(trial, "me", every=0.001):
        while not study.trials[0].user_attrs.get(PULSE):
            pass
    assert study.trials[0].user_attrs[SHARE] == "me"
    before = study.trials[0].user_attrs[PULSE]
    assert study.trials[0].user_attrs[PULSE] == before, "afterwards nothing is said"
