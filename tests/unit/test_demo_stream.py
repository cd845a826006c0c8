"""The demo's reviews repeat by seed, are varied, and cannot be judged by counting words."""

from __future__ import annotations

from collections import Counter

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from keepfit.app.demo import words
from keepfit.app.demo.stream import Review, ReviewStream


def test_a_seed_gives_the_same_reviews_and_another_seed_others() -> None:
    first, again, other = ReviewStream(3), ReviewStream(3), ReviewStream(4)
    assert [*first.before(5), *first.after(5)] == [*again.before(5), *again.after(5)]
    assert list(ReviewStream(3).before(20)) != list(other.before(20))


def test_the_stream_goes_on_where_it_was() -> None:
    stream, whole = ReviewStream(1), ReviewStream(1)
    assert [*stream.before(4), *stream.before(6)] == list(whole.before(10))


@pytest.mark.parametrize("world", ["before", "after"])
def test_reviews_are_varied_balanced_and_of_ordinary_length(world: str) -> None:
    reviews: list[Review] = list(getattr(ReviewStream(2), world)(2000))
    assert len({review.text for review in reviews}) > 1990
    assert 0.45 < Counter(review.label for review in reviews)["positive"] / 2000 < 0.55
    lengths = [len(review.text.split()) for review in reviews]
    assert min(lengths) >= 15
    assert max(lengths) <= 60
    products = words.OLD_LINE if world == "before" else words.NEW_LINE
    assert {review.key for review in reviews} == set(products)


def test_the_two_worlds_share_no_product_and_the_turned_words_are_no_others() -> None:
    assert not set(words.OLD_LINE) & set(words.NEW_LINE)
    lists = (words.POSITIVE, words.NEGATIVE, words.TURNED_GOOD, words.TURNED_BAD)
    assert len(set().union(*lists)) == sum(map(len, lists))


def test_counting_words_says_little_about_a_review() -> None:
    stream = ReviewStream(5)
    train, test = list(stream.before(1500)), list(stream.before(1500))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=500)
    )
    model.fit([review.text for review in train], [review.label for review in train])
    assert 0.6 < model.score([review.text for review in test], [review.label for review in test]) < 0.8
