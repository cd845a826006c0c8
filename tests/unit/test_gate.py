"""The gate lets through what is proven and says with numbers why not, or why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.data.snapshot import Rows
from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.evaluation.behaviour import BehaviourResult, CheckResult, Slip
from keepfit.evaluation.contradiction import denied_by_neighbours
from keepfit.evaluation.evaluator import Judged
from keepfit.evaluation.gate import Gate, Rule, Trial
from keepfit.evaluation.rules import (
    STANDARD,
    Behaviour,
    Better,
    Floors,
    Guard,
    LatencyBudget,
    NegativeFlips,
    NotWorse,
)
from keepfit.intervals import wilson
from keepfit.tasks.task import Output

LABELS = ("neg", "pos")


def flags(*runs: tuple[int, bool]) -> NDArray[np.bool_]:
    """Runs of equal values: flags((2, True), (1, False)) is [True, True, False]."""
    return np.concatenate([np.full(n, value) for n, value in runs])


def judged(
    truth: Sequence[int],
    right: NDArray[np.bool_],
    embeddings: NDArray[np.float32] | None = None,
    labels: Sequence[str] = LABELS,
) -> Judged:
    """Answers that are right exactly where they should be, else the next class."""
    n, k = len(truth), len(labels)
    said = np.where(right, truth, (np.array(truth) + 1) % k)
    scores = np.full((n, k), 0.1 / max(k - 1, 1), np.float32)
    scores[np.arange(n), said] = 0.9
    rows = Rows(
        tuple(f"text {i}" for i in range(n)), tuple(labels[t] for t in truth), tuple(f"e{i}" for i in range(n)),
        tuple(f"g{i}" for i in range(n)), (datetime(2025, 1, 1, tzinfo=UTC),) * n, np.zeros(n, bool),
        np.ones(n, np.float32),
    )  # fmt: skip
    where = embeddings if embeddings is not None else np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    return Judged(rows, tuple(labels), np.array(truth, np.int64), Output(scores, where))


def trial(champion: NDArray[np.bool_], candidate: NDArray[np.bool_], recent: int = 0, **more: Any) -> Trial:
    """Two classes by turns; the last `recent` rows are since the change."""
    truth = [i % 2 for i in range(len(champion))]
    since = flags((len(champion) - recent, False), (recent, True))
    return Trial(judged(truth, candidate), judged(truth, champion), recent=since, **more)


def judge(rules: Rule | Sequence[Rule], case: Trial) -> Decision:
    decision = Gate([rules] if not isinstance(rules, tuple | list) else rules).judge(case)
    assert json.dumps(decision.evidence, allow_nan=False)
    assert all("  " not in sentence and sentence[-1] != "." for sentence in decision.because)
    return decision


def test_harm_asks_for_a_proof_on_labels_since_the_change() -> None:
    better = trial(flags((40, False), (60, True)), flags((35, True), (65, True)), recent=100, reason="harm")
    decision = judge(Better(), better)
    assert decision.outcome is Outcome.PASS
    assert decision.because == (
        "better on recent labels: accuracy 0.600 → 1.000, difference +0.400 (+0.294 to +0.491), "
        "40 better and 0 worse of 100, p = 9.1e-13, level 0.05",
    )


def test_what_was_gained_on_old_data_proves_nothing_about_harm() -> None:
    case = trial(flags((60, False), (40, True)), flags((100, True)), recent=40, reason="harm")
    decision = judge(Better(), case)
    assert decision.outcome is Outcome.FAIL
    assert "0 better and 0 worse of 40" in decision.because[0]
    assert "at least 5 examples on which only the candidate is right" in decision.because[0]


@pytest.mark.parametrize("recent", [0, 12])
def test_without_evidence_the_champion_stays_and_the_missing_labels_are_counted(recent: int) -> None:
    case = trial(flags((100, False)), flags((100, True)), recent=recent, reason="harm")
    decision = judge(Better(min_labels=30), case)
    assert decision.outcome is Outcome.FAIL
    assert f"there are {recent} held-out labels since the change and at least 30 are needed" in decision.because[0]
    assert f"about {30 - recent} more" in decision.because[0]


def test_a_lead_that_may_be_luck_says_how_many_labels_would_show_it() -> None:
    case = trial(flags((5, False), (3, True), (72, True)), flags((5, True), (3, False), (72, True)), 80, reason="harm")
    decision = judge(Better(), case)
    assert decision.outcome is Outcome.FAIL
    assert "p = 0.363" in decision.because[0]
    assert "about 433 held-out labels would show it [level]" in decision.because[0]


def test_harm_and_routine_are_judged_by_different_rules() -> None:
    equal = trial(flags((100, True)), flags((100, True)), recent=50)
    assert judge((Better(), NotWorse()), equal).evidence["rules"].keys() == {"not_worse"}
    harmed = trial(flags((100, True)), flags((100, True)), recent=50, reason="harm")
    assert judge((Better(), NotWorse()), harmed).evidence["rules"].keys() == {"better"}


@pytest.mark.parametrize("reason", ["routine", "asked"])
def test_a_routine_candidate_passes_when_equal_and_fails_when_worse(reason: str) -> None:
    equal = trial(flags((200, True)), flags((199, True), (1, False)), recent=100, reason=reason)
    assert judge(NotWorse(), equal).outcome is Outcome.PASS
    worse = trial(flags((200, True)), flags((194, True), (6, False)), recent=100, reason=reason)
    decision = judge(NotWorse(), worse)
    assert decision.outcome is Outcome.FAIL
    assert decision.because[0].startswith("worse on recent labels: accuracy 1.000 → 0.940")


def test_one_unlucky_example_of_few_does_not_stop_a_routine_candidate() -> None:
    case = trial(flags((30, True)), flags((29, True), (1, False)), recent=30)
    assert judge(NotWorse(), case).outcome is Outcome.PASS


def test_without_recent_labels_a_routine_candidate_is_compared_on_all_held_out_rows() -> None:
    case = trial(flags((200, True)), flags((150, True), (50, False)), recent=5)
    decision = judge(NotWorse(), case)
    assert decision.outcome is Outcome.FAIL
    assert "all held-out rows" in decision.because[0]
    assert "of 200" in decision.because[0]


def test_a_routine_candidate_that_is_worse_seldom_passes_and_an_equal_one_mostly_does() -> None:
    rng, passed = np.random.default_rng(4), {"equal": 0, "worse": 0}
    for kind, win, loss in (("equal", 0.04, 0.04), ("worse", 0.03, 0.06)):
        for _ in range(200):
            draws = rng.random(300)
            champion, candidate = ~(draws < win), ~((draws > win) & (draws < win + loss))
            passed[kind] += judge(NotWorse(), trial(champion, candidate, recent=300)).outcome is Outcome.PASS
    assert passed["equal"] > 140
    assert passed["worse"] < 40


def test_no_class_may_fall_on_the_old_data() -> None:
    truth = np.arange(400) % 2
    lost = (truth == 1) & (np.arange(400) < 60)
    case = Trial(judged(list(truth), ~lost), judged(list(truth), flags((400, True))))
    decision = judge(Guard(), case)
    assert decision.outcome is Outcome.FAIL
    assert "'pos' less often (1.000 → 0.850, -0.150" in decision.because[0]
    assert "[guard_margin]" in decision.because[0]
    assert judge(Guard(margin=0.2), case).outcome is Outcome.PASS
    assert decision.evidence["rules"]["guard"]["fallen"] == ["pos"]


def test_a_tiny_class_does_not_block_by_one_example_but_does_when_it_is_lost() -> None:
    truth = [0] * 300 + [1] * 6
    champion = judged(truth, flags((306, True)))
    unlucky = Trial(judged(truth, flags((305, True), (1, False))), champion)
    assert judge(Guard(), unlucky).outcome is Outcome.PASS
    collapsed = Trial(judged(truth, flags((300, True), (6, False))), champion)
    assert judge(Guard(), collapsed).outcome is Outcome.FAIL


def test_150_classes_do_not_block_by_their_number() -> None:
    labels, rng, refused = tuple(f"c{i:03}" for i in range(150)), np.random.default_rng(1), 0
    truth = list(np.repeat(np.arange(150), 20))
    for _ in range(20):
        draws = rng.random(3000)
        case = Trial(judged(truth, ~(draws < 0.05), labels=labels), judged(truth, ~(draws > 0.95), labels=labels))
        refused += judge(Guard(), case).outcome is Outcome.FAIL
    assert refused <= 1


def test_rows_that_the_same_content_contradicts_are_reported_and_do_not_block() -> None:
    lost = flags((60, False), (340, True))
    ids = frozenset(f"e{i}" for i in range(60))
    case = trial(flags((400, True)), lost, contradicted=ids)
    decision = judge((Guard(), NegativeFlips()), case)
    assert decision.outcome is Outcome.PASS
    assert "60 old rows do not count because new labels deny theirs (60 with the same content" in decision.because[0]
    assert decision.evidence["rules"]["guard"]["denied"]["of_these_lost"] == 60
    assert decision.evidence["rules"]["negative_flips"]["total"] == 60


def turned(neighbours_deny: bool) -> Trial:
    """300 old rows in three regions of the embedding; recent labels deny the old ones of region 0, or touch only 1."""
    rng = np.random.default_rng(2)
    centres = np.eye(8, dtype=np.float32)
    region = np.concatenate([np.arange(300) % 3, np.full(40, 0 if neighbours_deny else 1)])
    where = (centres[region] + rng.normal(scale=0.05, size=(340, 8))).astype(np.float32)
    truth = np.concatenate([np.full(300, 1), np.full(40, 0 if neighbours_deny else 1)])
    recent = flags((300, False), (40, True))
    champion = np.where(recent, not neighbours_deny, True).astype(bool)
    candidate = np.where(recent, True, region != 0).astype(bool)
    return Trial(judged(list(truth), candidate), judged(list(truth), champion, where), "harm", recent)


def test_words_that_turned_do_not_block_where_recent_labels_deny_their_old_neighbours() -> None:
    decision = judge((Better(), Guard(), NegativeFlips()), turned(neighbours_deny=True))
    assert decision.outcome is Outcome.PASS
    assert "100 old rows do not count" in decision.because[1]
    assert judge(Guard(neighbours=0), turned(neighbours_deny=True)).outcome is Outcome.FAIL


def test_what_is_forgotten_where_recent_labels_say_nothing_blocks() -> None:
    assert judge(Guard(), turned(neighbours_deny=False)).outcome is Outcome.FAIL


def test_too_few_recent_labels_deny_nothing() -> None:
    said = np.ones(20, np.int64)
    recent = flags((9, False), (11, True))
    where = np.ones((20, 3), np.float32)
    assert not denied_by_neighbours(where, said, (~recent).astype(np.int64), recent).any()


def test_negative_flips_are_counted_listed_and_capped() -> None:
    case = trial(flags((400, True)), flags((80, False), (320, True)))
    decision = judge(NegativeFlips(), case)
    assert decision.outcome is Outcome.FAIL
    assert decision.because[0].startswith("80 of 400 old rows turn from right to wrong, 80 of all 400; at most 10% may")
    examples = decision.evidence["rules"]["negative_flips"]["examples"]
    assert len(examples) == 20
    assert examples[0] == {"id": "e0", "content": "text 0", "label": "neg", "says_now": "pos"}
    assert judge(NegativeFlips(0.25), case).outcome is Outcome.PASS


def test_the_first_version_is_judged_alone() -> None:
    case = Trial(judged([0, 1] * 50, flags((90, True), (10, False))), candidate_latency_ms=3.0)
    decision = judge(STANDARD, case)
    assert decision.outcome is Outcome.PASS
    assert decision.because[0] == "there is no champion yet, so the candidate is judged alone"
    assert decision.evidence["rules"].keys() == {"floors", "latency"}


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"accuracy": 0.85, "macro_f1": 0.8, "log_loss": 0.4}, "pass"),
        ({"accuracy": 0.95}, "fail"),
        ({"log_loss": 0.1}, "fail"),
    ],
)
def test_floors_hold_from_the_side_that_is_good(limits: dict[str, float], outcome: str) -> None:
    assert judge(Floors(limits), Trial(judged([0, 1] * 50, flags((90, True), (10, False))))).outcome == outcome


def test_a_floor_for_something_unknown_is_refused() -> None:
    with pytest.raises(SettingsError, match="no floor for 'acuracy'"):
        Floors({"acuracy": 0.9})


def test_a_model_that_always_says_the_same_has_learnt_nothing() -> None:
    decision = judge(Floors(), Trial(judged([0] * 90 + [1] * 10, flags((90, True), (10, False)))))
    assert "every answer is 'neg'" in decision.because[0]


@pytest.mark.parametrize(
    ("candidate", "champion", "ms", "outcome"),
    [
        (30.0, 20.0, None, "pass"),
        (50.0, 20.0, None, "fail"),
        (3.0, 1.0, None, "pass"),
        (30.0, 20.0, 25.0, "fail"),
        (30.0, None, 25.0, "fail"),
    ],
)
def test_the_latency_stays_in_its_budget(
    candidate: float, champion: float | None, ms: float | None, outcome: str
) -> None:
    case = trial(flags((10, True)), flags((10, True)), candidate_latency_ms=candidate, champion_latency_ms=champion)
    assert judge(LatencyBudget(ms), case).outcome == outcome


def behaviour(name: str, failed: int) -> BehaviourResult:
    slips = (Slip("so good", "SO GOOD", "pos", "neg"),) if failed else ()
    return BehaviourResult((CheckResult(name, 0.05, wilson(failed, 100), slips),))


def test_broken_behaviour_blocks_and_shows_an_example() -> None:
    case = trial(flags((10, True)), flags((10, True)), behaviour=behaviour("case", 30))
    decision = judge(Behaviour(), case)
    assert decision.outcome is Outcome.FAIL
    assert decision.because[0] == (
        "30 of 100 labels change with case (5% allowed), such as 'SO GOOD': 'neg' instead of 'pos' [invariances]"
    )


def test_a_weakness_that_the_champion_shares_does_not_hold_up_a_recovery_but_a_must_does() -> None:
    def case(name: str) -> Trial:
        both = {"behaviour": behaviour(name, 30), "champion_behaviour": behaviour(name, 30)}
        return trial(flags((10, True)), flags((10, True)), **both)

    assert judge(Behaviour(), case("case")).outcome is Outcome.PASS
    assert judge(Behaviour(), case("must_hold")).outcome is Outcome.FAIL


def test_objections_come_first_and_what_held_is_said_too() -> None:
    case = trial(flags((400, True)), flags((320, True), (80, False)), recent=0, candidate_latency_ms=1.0)
    decision = judge(STANDARD, case)
    assert decision.outcome is Outcome.FAIL
    assert decision.evidence["objections"] == ["not_worse", "guard", "negative_flips"]
    assert decision.because[-1] == "an answer takes 1.0 ms"


def test_a_class_that_only_the_candidate_knows_is_compared_by_name() -> None:
    truth = [0, 1, 2] * 40
    labels = ("neg", "new", "pos")
    candidate = judged(truth, flags((120, True)), labels=labels)
    old = np.array([label == "new" for label in candidate.rows.truth])
    champion = Judged(candidate.rows, LABELS, np.where(old, -1, np.array(truth) // 2), judged([0] * 120, ~old).output)
    assert judge(NotWorse(), Trial(candidate, champion, recent=flags((120, True)))).outcome is Outcome.PASS


def test_a_trial_on_different_rows_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="same rows"):
        Trial(judged([0, 1], flags((2, True))), judged([0], flags((1, True))))
    with pytest.raises(ValueError, match="recent"):
        Trial(judged([0, 1], flags((2, True))), recent=flags((3, True)))


# rows that the champion has not learnt to judge


def case(beyond_right: int) -> Trial:
    """Ten shared rows, all right; ten more that the champion does not know, so many of them right."""
    every = flags((10, True))
    more = judged([i % 2 for i in range(10)], flags((beyond_right, True), (10 - beyond_right, False)))
    return trial(every, every, beyond=more, unknown=10)


def test_floors_hold_also_where_there_is_no_champion_to_compare_with() -> None:
    floor = Floors({"accuracy": 0.8})
    assert judge(floor, case(6)).outcome is Outcome.PASS
    decision = judge(floor, case(5))
    assert decision.outcome is Outcome.FAIL
    assert "on 20 held-out rows, those that the champion does not know included: accuracy 0.750" in decision.because[0]


def test_what_the_champion_does_not_know_is_said_and_no_rule_compares_on_it() -> None:
    decision = judge((NegativeFlips(0.0), Guard(0.0)), case(0))
    assert decision.outcome is Outcome.PASS
    assert decision.because[0].startswith("the champion has not learnt to judge 10 of 20 rows")


def test_a_champion_that_knows_none_of_the_rows_is_not_called_absent() -> None:
    right = flags((10, True))
    decision = judge(Floors({"accuracy": 0.8}), Trial(judged([i % 2 for i in range(10)], right), unknown=10))
    assert decision.because[0].startswith("the champion has not learnt to judge 10 of 10 rows")
