"""Labels of those who are set apart neither measure, nor trigger, nor train, until a person says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import numpy as np
import pytest

from keepfit.alerts.alerts import Alerts
from keepfit.alerts.mailbox import MemoryChannel
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Label, Prediction, QueueItem, Source, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.errors import NotFound
from keepfit.pipelines.announce import Announcer
from keepfit.pipelines.trust import LabelTrust

M = "reviews"
LABELS = ("bad", "good")
HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """People who label answers."""

    store: RecordStore
    clock: ManualClock
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def trust(self) -> LabelTrust:
        return LabelTrust(M, self.store, self.clock)

    def answers(self, n: int) -> list[Prediction]:
        """Every second one is good."""
        pairs = []
        for number in (next(self.numbers) for _ in range(n)):
            example = Example(f"text {number}", self.clock.now(), f"e{number}")
            scores = np.array([0.1, 0.9] if number % 2 else [0.9, 0.1], np.float32)
            said = Prediction(example.id, 1, LABELS, scores, np.zeros(2, np.float32), self.clock.now(), f"p{number}")
            pairs.append((example, said))
        self.store.add_predictions(M, pairs)
        return [said for _, said in pairs]

    def label(
        self, actor: str, n: int, value: str | None = None, source: Source = Source.ASKED, at: datetime | None = None,
        by_hand: bool = False,
    ) -> None:  # fmt: skip
        """n labels; as the model said, unless a value is given."""
        now = at or self.clock.now()
        labels = [Label(p.example_id, value or p.label, now, source, actor, 1.0, p.id) for p in self.answers(n)]
        self.store.add_labels(M, labels, by_hand=by_hand)

    def usual(self, *actors: str) -> None:
        """Four quiet hours."""
        for _ in range(4):
            for actor in actors:
                self.label(actor, 20)
            self.trust.judge()
            self.clock.advance(HOUR)

    def measuring(self) -> int:
        window = Window(self.clock.now() - timedelta(days=30), self.clock.now() + timedelta(days=1))
        return len(self.store.labelled(M, window, by="label"))


@pytest.fixture
def desk(store_url: str, clock: ManualClock) -> Iterator[Desk]:
    with RecordStore.open(store_url) as store:
        yield Desk(store, clock)


def test_a_flood_within_one_beat_counts_nowhere_and_is_kept(desk: Desk) -> None:
    desk.usual("ann")
    before = (desk.measuring(), len(desk.store.training_data(M)))
    since = desk.clock.now() - timedelta(seconds=1)
    desk.label("evil", 3000)
    assert desk.trust.judge() == ["evil"]
    assert (desk.measuring(), len(desk.store.training_data(M))) == before
    assert desk.store.count_labels(M, since) == 0, "no trigger counts them"
    assert len(desk.store.said(M, 10_000)) == 80 + 3000, "they are kept"
    (decision,) = desk.store.decisions(M, "labeller evil")
    assert decision.decision.outcome is Outcome.HOLD
    assert decision.decision.evidence["hour"] == 3000
    (row,) = desk.store.labellers(M)
    assert (row.actor, row.apart, row.decided_by) == ("evil", True, "keepfit")


def test_labels_that_claim_other_times_are_a_flood_all_the_same(desk: Desk) -> None:
    desk.usual("ann")
    desk.label("evil", 1000, at=desk.clock.now() - timedelta(days=20))
    assert desk.trust.judge() == ["evil"]


def test_invented_names_of_one_token_are_one_flood(desk: Desk) -> None:
    desk.usual("shop:ann")
    answers = desk.answers(1500)
    now = desk.clock.now()
    labels = [Label(p.example_id, p.label, now, Source.ASKED, f"evil:{n}", 1.0, p.id) for n, p in enumerate(answers)]
    desk.store.add_labels(M, labels)
    assert desk.trust.judge() == ["evil"]
    assert desk.measuring() == 80
    desk.label("evil:new", 5)
    assert desk.measuring() == 80, "who comes later through the token is set apart, too"


def test_the_labels_of_a_whole_day_without_a_worker_are_no_flood(desk: Desk) -> None:
    desk.usual("ann")
    desk.clock.advance(24 * HOUR)
    desk.label("ann", 24 * 100)
    assert desk.trust.judge() == []


def test_what_a_person_hands_in_by_the_command_line_is_no_flood(desk: Desk) -> None:
    desk.usual("ann")
    desk.label("root", 4000, by_hand=True)
    assert desk.trust.judge() == []
    desk.label("root", 4000)
    assert desk.trust.judge() == ["root"], "over HTTP it is"


def test_silence_and_files_are_no_labellers(desk: Desk) -> None:
    desk.usual("ann")
    desk.label("silence", 5000, "good", Source.COMPLETE)
    desk.label("file", 5000, "good", Source.IMPORTED)
    assert desk.trust.judge() == []
    assert {one.actor for one in desk.trust.standings()} == {"ann"}


def test_a_constant_answerer_is_set_apart_and_the_question_is_asked_again(desk: Desk) -> None:
    desk.usual("ann")
    (open_one,) = desk.answers(1)
    example = desk.store.prediction(M, open_one.id)[0]
    desk.store.ask([QueueItem("q", M, open_one.id, example, 1.0, "drawn", desk.clock.now(), LABELS)])
    now = desk.clock.now()
    desk.store.add_labels(M, [Label(open_one.example_id, "good", now, Source.ASKED, "lazy", 1.0, open_one.id)])
    assert desk.store.queue(M, 10) == []
    desk.label("lazy", 60, "good")
    assert desk.trust.judge() == ["lazy"]
    assert [item.id for item in desk.store.queue(M, 10)] == ["q"]


def test_a_person_clears_and_the_labels_come_back(desk: Desk) -> None:
    desk.usual("ann")
    desk.label("bob", 3000)
    desk.trust.judge()
    desk.trust.clear("bob", "boss")
    assert desk.measuring() == 3080
    desk.label("bob", 50)
    assert desk.trust.judge() == [], "the same flood is not held against bob again"
    (row,) = desk.store.labellers(M)
    assert (row.apart, row.decided_by) == (False, "boss")
    said = [d.decision.outcome for d in desk.store.decisions(M, "labeller bob")]
    assert sorted(said) == [Outcome.HOLD, Outcome.PASS]


def test_a_person_sets_apart(desk: Desk) -> None:
    desk.usual("ann", "bob")
    desk.trust.set_apart("bob", "boss")
    assert desk.measuring() == 80
    with pytest.raises(NotFound, match="nobody"):
        desk.trust.set_apart("nobody", "boss")


def test_others_labels_of_the_same_examples_count_on(desk: Desk) -> None:
    answers, now = desk.answers(10), desk.clock.now()
    for actor, value in (("ann", "bad"), ("evil", "good")):
        desk.store.add_labels(M, [Label(p.example_id, value, now, Source.ASKED, actor, 1.0, p.id) for p in answers])
    assert {pair.label.actor for pair in desk.store.training_data(M)} == {"evil"}, "the latest counts"
    desk.trust.set_apart("evil", "boss")
    assert {pair.label.actor for pair in desk.store.training_data(M)} == {"ann"}


def test_setting_apart_is_told_with_the_command_that_undoes_it(desk: Desk) -> None:
    mail = MemoryChannel()
    announcer = Announcer(M, desk.store, Alerts([mail]), desk.clock)
    desk.usual("ann")
    announcer.announce()
    desk.label("o'evil", 3000)
    desk.trust.judge()
    announcer.announce()
    ((title, body),) = mail.sent
    assert "o'evil" in title
    assert "flood" in body
    assert """keepfit labels trust 'o'"'"'evil' --clear --model reviews""" in body


def test_without_new_labels_nothing_is_judged_and_a_second_look_changes_nothing(desk: Desk) -> None:
    desk.usual("ann")
    desk.label("evil", 3000)
    assert desk.trust.judge() == ["evil"]
    assert desk.trust.judge() == []
    assert len(desk.store.decisions(M, "labeller")) == 1
