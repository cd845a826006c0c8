"""Models that were trained elsewhere: what is taken over exactly, and what is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, pipeline

from keepfit.data.columns import Columns
from keepfit.data.snapshot import Snapshot, import_file, write_snapshot
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.task import predict
from keepfit.tasks.text import backbone, imported
from keepfit.tasks.text import model as answering
from keepfit.tasks.text.fit import TextTask
from keepfit.tasks.text.importing import TextImport, named
from keepfit.training.recipe import Recipe

FP32 = Recipe(inference="fp32")
SAMPLE = ["The film was great 3", "a <b>poor</b>  story", "nothing known here", "good bad awful day " * 12, "the day"]


@pytest.fixture(scope="session")
def taught(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have it; not to be changed."""
    folder: Path = tiny.save(tiny.classifier("distilbert"), tmp_path_factory.mktemp("hf") / "model")
    return folder


@pytest.fixture
def folder(tiny: ModuleType, tmp_path: Path) -> Path:
    """One that a test may spoil."""
    made: Path = tiny.save(tiny.classifier("bert", taught=False), tmp_path / "hf")
    return made


@pytest.fixture
def none(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "state" / "snapshots", [], ("text",), {})


def quiet(what: str, done: int, of: int | None) -> None:
    pass


Take = Callable[..., Path]


@pytest.fixture
def take(tmp_path: Path, none: Snapshot) -> Take:
    """Imports without data, in fp32."""

    def taken(source: Path, recipe: Recipe = FP32, said: frozenset[str] = frozenset(), **asked: Any) -> Path:
        return TextImport(recipe, said, **asked)(source, none, quiet, tmp_path / "work")

    return taken


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2"])
def test_an_imported_model_answers_as_transformers_does(
    kind: str, tiny: ModuleType, take: Take, tmp_path: Path
) -> None:
    place = tiny.save(tiny.classifier(kind), tmp_path / "hf")
    classify = pipeline("text-classification", model=str(place), top_k=None, truncation=True, device="cpu")
    model = answering.load(take(place))
    assert model.labels == ("neg", "pos")
    ours = predict(model, SAMPLE)
    for said, row in zip(ours.scores, classify(SAMPLE), strict=True):
        theirs = {one["label"]: one["score"] for one in row}
        assert said == pytest.approx([theirs["neg"], theirs["pos"]], abs=1e-3)
    assert ours.embeddings.shape == (len(SAMPLE), 32)


def test_a_training_begins_with_the_imported_weights_tokenizer_and_classes(
    tiny: ModuleType, taught: Path, take: Take, none: Snapshot, tmp_path: Path
) -> None:
    settings = json.loads((take(taught) / "model.json").read_text("utf-8"))
    recipe = Recipe.from_json(settings["recipe"])
    assert (recipe.max_tokens, recipe.truncation) == (tiny.LONGEST, "head")
    found = backbone.load(recipe.backbone, None, imported.place_beside(none.path.parent))
    assert found.head is not None
    assert found.labels == ("neg", "pos")
    data, _ = import_file(none.path.parent, tiny.table(tmp_path / "d.csv", 60), Columns(("text",), "label"))
    # a rate of next to nothing leaves the network as it began
    still = recipe.with_(learning_rate=1e-12, epochs=1.0, inference="fp32", precision="fp32", max_tokens=24)
    again = TextTask().fit(data, still, lambda metrics, step: None, tmp_path / "fit")
    before, after = (load_file(f / "weights" / "model.safetensors") for f in (tmp_path / "work" / "model", again))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.allclose(weight, after[name], atol=1e-6), name
    warm = TextTask().fit(data, still.with_(start="warm"), lambda metrics, step: None, tmp_path / "warm", again)
    assert predict(answering.load(warm), SAMPLE).scores.argmax(axis=1).tolist() == (
        predict(answering.load(again), SAMPLE).scores.argmax(axis=1).tolist()
    )


def test_data_choose_the_arithmetic_and_calibrate(
    tiny: ModuleType, taught: Path, none: Snapshot, tmp_path: Path
) -> None:
    data, _ = import_file(none.path.parent, tiny.table(tmp_path / "d.csv", 300), Columns(("text",), "label"))
    done = TextImport(Recipe(), frozenset())(taught, data, quiet, tmp_path / "work")
    settings = json.loads((done / "model.json").read_text("utf-8"))
    assert settings["temperature"] != 1.0
    assert settings["imported"]["evaluated"]
    assert settings["acceptance"]["reference_accuracy"] > 0.9
    assert settings["acceptance"]["comparisons"][0]["precision"] == "int8"
    assert "## Imported" in (done / "card.md").read_text("utf-8")


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder: Path, take: Take) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin, a pickle.*safe_serialization=True"):
        take(folder)


def test_labels_that_do_not_fit_the_data_are_refused_with_both_lists(
    tiny: ModuleType, folder: Path, none: Snapshot, tmp_path: Path
) -> None:
    file = tiny.table(tmp_path / "d.csv", 60, {"pos": "good", "neg": "bad"})
    data, _ = import_file(none.path.parent, file, Columns(("text",), "label"))
    with pytest.raises(InvalidInput, match="the data have 'bad', 'good', the model has 'pos', 'neg'") as error:
        TextImport(FP32, frozenset())(folder, data, quiet, tmp_path / "work")
    assert "from the first output to the last: --labels A,B" in str(error.value)
    done = TextImport(FP32, frozenset(), ["good", "bad"])(folder, data, quiet, tmp_path / "work")
    assert answering.load(done).labels == ("bad", "good")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "names 1 classes"),
        (["a", "a"], "not all different"),
        ({"zeal": "a"}, "renames 'zeal', and the model has 'pos', 'neg'"),
    ],
)
def test_names_that_make_no_sense_are_refused(names: Any, words: str, folder: Path, take: Take) -> None:
    with pytest.raises(InvalidInput, match=words):
        take(folder, names=names)


def test_classes_are_renamed_by_number_or_by_name() -> None:
    assert named(["LABEL_0", "LABEL_1", "c"], {"0": "a", "LABEL_1": "b"}) == ("a", "b", "c")


def test_a_folder_without_a_tokenizer_is_refused_and_one_is_taken_from_elsewhere(
    folder: Path, take: Take, tmp_path: Path
) -> None:
    other = tmp_path / "tokenizer"
    other.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(other / name)
    with pytest.raises(InvalidInput, match=r"no tokenizer that can be used.*--tokenizer FOLDER"):
        take(folder)
    assert answering.load(take(folder, tokenizer=other)).labels == ("neg", "pos")


def test_a_tokenizer_of_another_model_is_refused(folder: Path, take: Take) -> None:
    words = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    words["model"]["vocab"] |= {f"more{i}": 1000 + i for i in range(3)}
    (folder / "tokenizer.json").write_text(json.dumps(words), "utf-8")
    with pytest.raises(InvalidInput, match="ids up to 1002 and the network's word table"):
        take(folder)


def test_weights_that_are_no_numbers_are_refused(folder: Path, take: Take) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInput, match=r"classifier\.bias hold NaN"):
        take(folder)


def test_a_backbone_without_a_head_is_no_classifier(folder: Path, take: Take) -> None:
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInput, match=r"lacks the weights classifier\.bias.*set recipe\.backbone"):
        take(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"problem_type": "multi_label_classification"}, "several labels"),
        ({"id2label": {"0": "x"}, "label2id": {"x": 0}, "num_labels": 1}, "one output"),
        ({"model_type": "t5", "classifier_dropout": 0.0}, "encoder-decoder"),
        ({"model_type": "nothing-known"}, "cannot be used"),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, Any], words: str, folder: Path, take: Take) -> None:
    values = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(values | changes), "utf-8")
    with pytest.raises(InvalidInput, match=words):
        take(folder)


def test_more_tokens_than_it_reads_are_refused(folder: Path, take: Take) -> None:
    with pytest.raises(InvalidInput, match="max_tokens = 64, and this model reads 32"):
        take(folder, max_tokens=64)
    assert json.loads((take(folder, max_tokens=16) / "model.json").read_text("utf-8"))["max_tokens"] == 16


def test_int8_needs_texts_to_be_calibrated_on(folder: Path, take: Take) -> None:
    with pytest.raises(InvalidInput, match="give --data"):
        take(folder, Recipe(inference="int8"), frozenset({"inference"}))


def test_an_imported_network_that_was_changed_is_not_trained_on(folder: Path, take: Take, none: Snapshot) -> None:
    name = json.loads((take(folder) / "model.json").read_text("utf-8"))["recipe"]["backbone"]
    home = imported.place_beside(none.path.parent)
    with (home / name.removeprefix(imported.PREFIX) / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(BackendError, match="was changed; import the model again"):
        backbone.load(name, None, home)
    with pytest.raises(BackendError, match="is not in"):
        backbone.load("imported:../../x", None, home)


class Compiled(torch.nn.Module):
    """What people export: logits, or probabilities, and perhaps hidden states."""

    def __init__(self, whole: Any, chances: bool, hidden: bool) -> None:
        super().__init__()
        self.whole, self.chances, self.hidden = whole, chances, hidden

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        said = self.whole(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        logits = torch.softmax(said.logits, -1) if self.chances else said.logits
        return (logits, said.hidden_states[-1]) if self.hidden else (logits,)


def compiled(whole: Any, xml: Path, chances: bool = False, hidden: bool = False) -> Path:
    """An IR with int64 inputs of any shape."""
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    module = Compiled(whole, chances, hidden).eval()
    shapes = [(ov.PartialShape([-1, -1]), ov.Type.i64)] * 2
    with torch.no_grad():
        network = ov.convert_model(module, example_input=(ids, (ids > 0).long()), input=shapes)
    names = ("logits", "last_hidden_state")
    for ports, called in ((network.inputs, ("input_ids", "attention_mask")), (network.outputs, names)):
        for port, name in zip(ports, called, strict=False):
            port.tensor.set_names({name})
    ov.save_model(network, xml, compress_to_fp16=False)
    return xml


@pytest.mark.filterwarnings("ignore")  # the tracer comments on every Python branch
@pytest.mark.parametrize(("chances", "hidden", "width"), [(False, True, 32), (True, False, 2)])
def test_an_openvino_network_answers_as_it_did(
    chances: bool, hidden: bool, width: int, taught: Path, tiny: ModuleType, take: Take, tmp_path: Path
) -> None:
    xml = compiled(tiny.classifier("distilbert"), tmp_path / "net.xml", chances, hidden)
    done = take(xml, tokenizer=taught, names=["pos", "neg"])
    ours, about = (
        predict(answering.load(done), SAMPLE),
        json.loads((done / "model.json").read_text("utf-8"))["imported"],
    )
    assert (about["learns"], about["embedding"]) == (False, "last_hidden_state" if hidden else "scores")
    assert ours.embeddings.shape == (len(SAMPLE), width)
    assert ours.scores == pytest.approx(predict(answering.load(take(taught)), SAMPLE).scores, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_says_what_it_lacks(taught: Path, tiny: ModuleType, take: Take, tmp_path: Path) -> None:
    xml = compiled(tiny.classifier("distilbert", taught=False), tmp_path / "net.xml")
    with pytest.raises(InvalidInput, match="without a tokenizer"):
        take(xml, names=["a", "b"])
    with pytest.raises(InvalidInput, match="does not say what its outputs mean"):
        take(xml, tokenizer=taught)
    with pytest.raises(InvalidInput, match="gives 2 outputs and 3 labels"):
        take(xml, tokenizer=taught, names=["a", "b", "c"])
    with pytest.raises(InvalidInput, match=r'set recipe\.start = "new"'):
        take(xml, Recipe(start="warm"), frozenset({"start"}), tokenizer=taught, names=["a", "b"])
    done = take(xml, tokenizer=taught, names=["a", "b"])
    about = json.loads((done / "model.json").read_text("utf-8"))["imported"]
    assert (about["learns"], about["embedding"]) == (False, "scores")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InvalidInput, match=r"without net\.bin"):
        take(xml, tokenizer=taught, names=["a", "b"])


def test_a_warm_start_on_a_network_without_weights_is_refused(
    taught: Path, tiny: ModuleType, take: Take, none: Snapshot, tmp_path: Path
) -> None:
    ids, mask = (ops.parameter([-1, -1], np.int64, name) for name in ("input_ids", "attention_mask"))
    vector = ops.gather(ops.constant(np.ones((40, 2), np.float32)), ids, ops.constant(0, dtype=np.int64))
    logits = ops.reduce_sum(vector, ops.constant(1, dtype=np.int64))
    network = ov.Model([ops.result(logits)], [ids, mask], "sum")
    for node, name in ((ids, "input_ids"), (mask, "attention_mask")):
        node.output(0).tensor.set_names({name})
    ov.save_model(network, tmp_path / "sum.xml")
    done = take(tmp_path / "sum.xml", tokenizer=taught, names=["neg", "pos"])
    data, _ = import_file(none.path.parent, tiny.table(tmp_path / "d.csv", 60), Columns(("text",), "label"))
    warm = Recipe.from_json(json.loads((done / "model.json").read_text("utf-8"))["recipe"]).with_(start="warm")
    with pytest.raises(InvalidInput, match="imported without weights that can learn"):
        TextTask().fit(data, warm, lambda metrics, step: None, tmp_path / "fit", done)


def test_a_backbone_can_be_named_for_what_comes_after_a_compiled_network(
    taught: Path, tiny: ModuleType, take: Take, none: Snapshot, tmp_path: Path
) -> None:
    AutoModel.from_pretrained(taught).save_pretrained(tmp_path / "bare")
    AutoTokenizer.from_pretrained(taught).save_pretrained(tmp_path / "bare")
    ids, mask = (ops.parameter([-1, -1], np.int64, name) for name in ("input_ids", "attention_mask"))
    vector = ops.gather(ops.constant(np.ones((40, 2), np.float32)), ids, ops.constant(0, dtype=np.int64))
    network = ov.Model([ops.result(ops.reduce_sum(vector, ops.constant(1, dtype=np.int64)))], [ids, mask], "sum")
    for node, name in ((ids, "input_ids"), (mask, "attention_mask")):
        node.output(0).tensor.set_names({name})
    ov.save_model(network, tmp_path / "sum.xml")
    done = take(tmp_path / "sum.xml", tokenizer=taught, names=["neg", "pos"], backbone=str(tmp_path / "bare"))
    name = json.loads((done / "model.json").read_text("utf-8"))["recipe"]["backbone"]
    found = backbone.load(name, None, imported.place_beside(none.path.parent))
    assert (found.pooling, found.width, found.head) == ("mean", 32, None)
