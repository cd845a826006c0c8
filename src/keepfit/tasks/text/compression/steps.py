"""The ways to make a text model smaller or faster; each writes a new folder and leaves the one before as it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.data.records import new_id
from keepfit.engine.convert import export, quantise
from keepfit.engine.engine import Precision
from keepfit.engine.openvino import has_bf16
from keepfit.engine.tables import is_small, small_lookup
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.taught import remember
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.acceptance import ORDER, Comparison
from keepfit.tasks.text.compression.corpus import Corpus
from keepfit.tasks.text.compression.distilling import MOST, Texts, distil
from keepfit.tasks.text.compression.folders import copied, read_facts, revise
from keepfit.tasks.text.compression.judging import Judge, Made
from keepfit.tasks.text.compression.shape import depth
from keepfit.tasks.text.fit import CALIBRATION_TEXTS, spread
from keepfit.tasks.text.model import NETWORKS, read_folder
from keepfit.tasks.text.preprocessing import Content
from keepfit.training.recipe import Recipe
from keepfit.training.trainer import Report

ALPHAS = (0.95, 0.5, -1.0)
"""How far SmoothQuant (Xiao et al., arXiv 2211.10438) moves outliers of the activations into the weights; -1: not."""
FP32, INT8 = Path("ir") / NETWORKS["fp32"], Path("ir") / NETWORKS["int8"]


def look_up_small(before: Made, after: Path) -> tuple[str, Made]:
    """The word table in int8, in the network that answers. Raises InvalidInput where it is so already."""
    network = Path("ir") / NETWORKS[before.precision]
    if is_small(before.folder / network):
        raise InvalidInput("the words are looked up in int8 already")
    copied(before.folder, after)
    small_lookup(before.folder / network, after / network)
    return "word table in int8", Made(after, before.reading)


def make_int8(before: Made, after: Path, corpus: Corpus, judge: Judge) -> tuple[str, Made]:
    """The whole network in int8, by the strength of SmoothQuant that changes the answers least."""
    batches, tried = calibration(before, corpus.seen), dict[float, tuple[Comparison, Made]]()
    for alpha in ALPHAS:
        made = Made(copied(before.folder, after.with_name(f"{after.name}{alpha:g}")), before.reading)
        try:
            small_lookup(quantise(before.folder / FP32, batches, made.folder / INT8, alpha), made.folder / INT8)
        except BackendError as error:  # the other methods may still do something
            raise InvalidInput(str(error)) from error
        tried[alpha] = judge.compare("int8", made.load("int8")), made
    best = min(tried, key=lambda alpha: tried[alpha][0].expected_loss)
    comparison, made = tried[best]
    answer_in("int8", made, judge, comparison)
    shutil.rmtree(after, ignore_errors=True)
    made.folder.rename(after)
    return f"int8, {smoothing(best)}", Made(after, before.reading)


def smoothing(alpha: float) -> str:
    """In words.

    >>> smoothing(0.5), smoothing(-1.0)
    ('SmoothQuant 0.5', 'not smoothed')
    """
    return f"SmoothQuant {alpha:g}" if alpha >= 0 else "not smoothed"


def fewer_layers(
    before: Made, after: Path, corpus: Corpus, judge: Judge, wanted: int, report: Report
) -> tuple[str, Made]:
    """Some layers dropped, the others taught by the whole network; in the first arithmetic that keeps the accuracy.

    Raises InvalidInput where so many layers cannot be kept.
    """
    whole = depth(networks.load(before.folder / "weights").encoder)
    if not 1 <= wanted < whole:
        raise InvalidInput(f"the version has {whole} layers, so --layers may be 1 to {whole - 1}", "layers")
    facts, recipe = read_folder(before.folder)[0], Recipe.from_json(read_facts(before.folder)["recipe"])
    texts = Texts([corpus.seen[i] for i in spread(len(corpus.seen), MOST)], corpus.held_out.texts, facts.pad_id)
    student, outcome = distil(before, wanted, texts, recipe, report, after.with_name("distilling"))
    made = Made(copied(before.folder, after), before.reading)
    shutil.rmtree(after / "ir")
    networks.save(student, after / "weights")
    xml = export(student, after / FP32, longest=min(64, facts.max_tokens))
    small_lookup(quantise(xml, calibration(made, corpus.seen), after / INT8), after / INT8)
    possible: list[Precision] = [p for p in ORDER if p != "bf16" or has_bf16()]
    found = {p: judge.compare(p if p != "fp32" else "fp32 of fewer layers", made.load(p)) for p in possible}
    taken = next((p for p in possible if found[p].kept), possible[0])
    remember(texts.learn, after, new_id(), before.folder)
    revise(after, distilled=outcome.to_json() | {"texts": len(texts.learn)})
    answer_in(taken, made, judge, found[taken])
    return f"{wanted} of {whole} layers, {taken}", made


def calibration(made: Made, contents: Sequence[Content]) -> list[Mapping[str, Any]]:
    """Texts for NNCF to look at, as the network gets them."""
    preprocessor = read_folder(made.folder)[1]
    ids = preprocessor.encode([contents[i] for i in spread(len(contents), CALIBRATION_TEXTS)]).ids
    return [{"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)} for row in ids if row]


def answer_in(precision: Precision, made: Made, judge: Judge, comparison: Comparison) -> None:
    """Write the arithmetic of the answers into the folder, with the temperature that fits it."""
    used = {"fp32": judge.cpu["fp32"], precision: judge.cpu[comparison.precision]}
    acceptance = {
        **read_facts(made.folder)["acceptance"],
        "chosen": precision,
        "comparisons": [asdict(comparison)],
        "cpu_seconds": {name: round(seconds, 3) for name, seconds in used.items()},
    }
    revise(made.folder, precision=precision, temperature=judge.temperature(made, precision), acceptance=acceptance)
