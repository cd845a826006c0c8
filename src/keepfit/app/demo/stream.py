"""A stream of product reviews for the demo, and the day on which its language changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from keepfit.app.demo import words

Sentiment = Literal["positive", "negative"]


class Review(NamedTuple):
    """One review with its true label (positive or negative); `key` is the product's name."""

    text: str
    label: str
    key: str


@dataclass(frozen=True)
class World:
    """What is sold, and which words are praise."""

    products: Mapping[str, tuple[str, ...]]
    praise: tuple[str, ...]
    blame: tuple[str, ...]
    slang_praise: tuple[str, ...]
    slang_blame: tuple[str, ...]
    slang: float
    """How often a judging word is one of those that turn."""

    def judgement(self, rng: random.Random, sentiment: Sentiment) -> str:
        """A word for it."""
        slang, usual = (self.slang_praise, self.praise) if sentiment == "positive" else (self.slang_blame, self.blame)
        return rng.choice(slang if rng.random() < self.slang else usual)


BEFORE = World(words.OLD_LINE, words.POSITIVE, words.NEGATIVE, words.TURNED_BAD, words.TURNED_GOOD, 0.12)
AFTER = World(words.NEW_LINE, words.POSITIVE, words.NEGATIVE, words.TURNED_GOOD, words.TURNED_BAD, 0.7)

CONTRARY = 0.7
"""How often what does not matter (the box, a rival, hopes) is judged contrary to what does."""
NEGATED = 0.25
"""How often the verdict is said by denying its contrary."""


class ReviewStream:
    """Reviews for ever, the same ones for the same seed and calls.

    The label is what the reviewer thinks of the product. Each review also judges what does not matter (the box, a
    rival's product, what was hoped for, how it used to be), mostly the other way round, so counting words says
    little: one has to read. After the change other products are sold, and ten words of praise have become blame,
    ten of blame praise; next to a kettle they still mean what they meant.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)

    def before(self, n: int) -> Iterator[Review]:
        """The next n reviews of the old world."""
        return (self._review(BEFORE) for _ in range(n))

    def after(self, n: int) -> Iterator[Review]:
        """The next n reviews of the new world."""
        return (self._review(AFTER) for _ in range(n))

    def _review(self, world: World) -> Review:
        rng = self._rng
        label: Sentiment = rng.choice(("positive", "negative"))
        writer = Writer(rng, world, label)
        return Review(writer.text(), label, writer.product)


class Writer:
    """Writes one review."""

    def __init__(self, rng: random.Random, world: World, label: Sentiment) -> None:
        self._rng, self._world, self._label = rng, world, label
        self._contrary: Sentiment = "negative" if label == "positive" else "positive"
        self.product = rng.choice(sorted(world.products))
        self._aspect = f"the {rng.choice(world.products[self.product])}"

    def text(self) -> str:
        """A few sentences, 15 words or more, the verdict in one or two of them."""
        pattern: Callable[[], list[str]] = self._rng.choice(
            (self._hoped, self._rival, self._used_to_be, self._although, self._but, self._plain)
        )
        sentences = pattern()
        if self._rng.random() < 0.3:
            sentences.append(self._outcome())
        wanted = self._rng.choice((15, 18, 22, 30))
        fillers = iter(self._rng.sample(words.FILLERS, len(words.FILLERS)))
        while sum(len(sentence.split()) for sentence in sentences) < wanted:
            sentences.insert(self._rng.randrange(len(sentences) + 1), next(fillers))
        return " ".join(s[0].upper() + s[1:].rstrip(".") + "." for s in sentences)

    def _pick(self, *choices: str) -> str:
        return self._rng.choice(choices)

    def _said(self, sentiment: Sentiment) -> str:
        return self._world.judgement(self._rng, sentiment)

    def _aside(self) -> str:
        return self._said(self._contrary if self._rng.random() < CONTRARY else self._label)

    def _is(self) -> str:
        """The verdict's predicate: "is superb" or "is anything but awful"."""
        if self._rng.random() < NEGATED:
            denied = self._said(self._contrary)
            return self._pick(
                f"is anything but {denied}",
                f"is not {denied} at all",
                f"is never {denied}",
                f"is far from {denied}",
                f"is by no means {denied}",
                f"is hardly {denied}",
            )
        praise = self._said(self._label)
        return self._pick(
            f"is {praise}",
            f"is really {praise}",
            f"is simply {praise}",
            f"proved {praise}",
            f"turned out {praise}",
            f"is {praise} every single day",
            f"is {praise} in daily use",
            f"feels {praise}",
        )

    def _outcome(self) -> str:
        return self._rng.choice(words.OUTCOME[self._label])

    def _small(self) -> str:
        return f"the {self._rng.choice(words.TRIVIAL)}"

    def _subject(self) -> str:
        return self._pick(
            self._aspect, f"this {self.product}", f"the {self.product}", f"{self._aspect} of this {self.product}"
        )

    def _hoped(self) -> list[str]:
        hoped = self._said(self._contrary)
        first = self._pick(
            f"after reading the advert I expected this {self.product} to be {hoped}",
            f"everybody had told me that the {self.product} would be {hoped}",
            f"I was prepared for the kind of {self.product} that is {hoped}",
            f"online they call this {self.product} {hoped}",
        )
        return [
            first,
            f"{self._pick('in fact', 'as it happens,', 'in reality', 'now that I own it I can say that')} "
            f"{self._aspect} {self._is()}",
        ]

    def _rival(self) -> list[str]:
        brand, owner = self._rng.choice(words.BRANDS), self._rng.choice(words.OWNERS)
        other = f"the {brand} that {owner} bought is {self._said(self._contrary)}"
        mine = f"{self._subject()} {self._is()}"
        return self._rng.choice(
            (
                [f"{other}, whereas with mine {self._aspect} {self._is()}"],
                [mine, f"compared with it, {other}"],
                [other, mine],
            )
        )

    def _used_to_be(self) -> list[str]:
        old = self._said(self._contrary)
        return [
            self._pick(
                f"the {self.product} we had before was {old}, and with this new one {self._aspect} {self._is()}",
                f"earlier models of this {self.product} used to be {old}; this year's {self._is()}",
                f"in the first hour it seemed {old}, yet ever since {self._aspect} {self._is()}",
            )
        ]

    def _although(self) -> list[str]:
        small = f"{self._small()} was {self._aside()}"
        main = f"{self._subject()} {self._is()}"
        return [
            self._pick(f"although {small}, {main}", f"{main}, even though {small}", f"{main}, never mind that {small}")
        ]

    def _but(self) -> list[str]:
        small = f"{self._small()} was {self._aside()} and {self._small()} was {self._aside()}"
        return [f"{small}, {self._pick('but', 'however', 'yet')} what counts is that {self._subject()} {self._is()}"]

    def _plain(self) -> list[str]:
        return [
            f"{self._subject()} {self._is()}",
            self._pick(
                f"{self._small()} was {self._aside()}, not that I care",
                f"I also noticed that {self._small()} was {self._aside()}",
            ),
        ]
