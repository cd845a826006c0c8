"""What must not be found any more, in the forms in which files hold it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.data.needles import FEW, GONE, Needles

TEXT = 'she said "Zoë, come" to me'


@pytest.mark.parametrize(
    "written",
    [
        TEXT.encode(),
        json.dumps({"text": TEXT}).encode(),
        json.dumps({"text": TEXT}, ensure_ascii=False).encode(),
        ('id,text\n1,"' + TEXT.replace('"', '""') + '"\n').encode(),
        b"\x00\x01" + TEXT.encode() + b"\x02",
    ],
)
def test_a_text_is_found_however_a_file_writes_it(written: bytes) -> None:
    assert Needles((), [TEXT]).count(written) >= 1
    assert Needles((), ["another text altogether"]).count(written) == 0


def test_a_longer_name_is_another_name() -> None:
    needles = Needles(["customer-17"], ())
    assert needles.count(b'["customer-170", "xcustomer-17", "customer-17-b"]') == 0
    assert needles.count(b'["customer-170", "customer-17"]') == 1
    assert needles.count(b'["customer-170"]', bounded=False) == 1


def test_a_name_after_an_escaped_line_break_is_found() -> None:
    assert Needles(["customer-17"], ()).count(json.dumps("a\ncustomer-17\nb").encode()) == 1


def test_what_is_too_short_to_tell_is_not_looked_for_and_counted() -> None:
    needles = Needles(["42"], ["ok"])
    assert not needles
    assert needles.too_short == 2


def test_a_long_text_is_found_by_a_part_of_it() -> None:
    text = " ".join(f"word{i}" for i in range(1000))
    assert Needles((), [text]).count(text.encode()[:500]) >= 1
    assert Needles((), [text]).count(text.encode()[-500:]) >= 1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text("abc ", min_size=12, max_size=16), min_size=1, max_size=40, unique=True), st.integers(0, 2**32))
def test_many_are_found_as_few_are(texts: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = ("".join(rng.choice(list("abc "), 200)) + texts[0] + "".join(rng.choice(list("abc "), 50))).encode()
    many = Needles((), [*texts, *(f"something else {i}" for i in range(FEW))])
    slowly = sum(Needles((), [text]).count(content, bounded=False) for text in texts if len(text) >= 12)
    folded = {form for text in texts for form in (" ".join(text.split()),)} - set(texts)
    if not folded:
        assert many.count(content, bounded=False) == slowly
    assert many.count(content, bounded=False) >= 1


def test_a_value_is_scrubbed_and_a_slip_loses_both_its_texts() -> None:
    slip = {"before": TEXT, "after": TEXT.upper(), "expected": "pos", "said": "neg"}
    value = {"because": [f"such as {TEXT}!"], "slips": [slip, {**slip, "before": "x"}], "n": 3, "customer-17": True}
    scrubbed = Needles(["customer-17"], [TEXT]).scrubbed(value)
    assert scrubbed == {
        "because": [f"such as {GONE}!"], "n": 3,
        "slips": [{**slip, "before": GONE, "after": GONE}, {**slip, "before": "x"}],
    }  # fmt: skip


def test_the_changed_text_of_a_slip_is_told() -> None:
    slips = [{"before": TEXT, "after": TEXT.upper() + "…"}, {"before": "x", "after": "Y"}]
    assert set(Needles((), [TEXT]).changed_forms({"a": slips})) == {TEXT.upper()}


def test_a_quotation_that_is_cut_short_is_found_and_scrubbed() -> None:
    text = " ".join(f"syllable{i}" for i in range(60))
    quoted = f"such as '{text[:159]}…': pos"
    needles = Needles((), [text])
    assert needles.in_text(quoted) == 1
    assert needles.scrubbed(quoted) == f"such as '{GONE}': pos"


def test_a_text_in_foreign_quotation_marks_is_found() -> None:
    assert Needles((), ["a secret of hers"]).in_text("she wrote «a secret of hers» to me") == 1


def test_stored_json_is_blanked_and_stays_json() -> None:
    stored = json.dumps({"a": f"x\ncustomer-17 said {TEXT}", "customer-170": 1})
    blank = Needles(["customer-17"], [TEXT]).blanked(stored)
    assert json.loads(blank) == {"a": f"x\n{GONE} said {GONE}", "customer-170": 1}
