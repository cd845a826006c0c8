"""Answering stays small: a process that loads a model and predicts has imported nothing that only learning needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from keepfit.engine.convert import export

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "good", "film"]
HEAVY = {
    "torch", "transformers", "mlflow", "nncf", "accelerate", "pandas", "sklearn", "scipy", "matplotlib", "dbos",
    "optuna", "diffusers", "PIL",
}  # fmt: skip


class TinyNetwork(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(len(WORDS), 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = (self.words(input_ids) * attention_mask.unsqueeze(-1)).sum(1)
        return {"logits": self.head(embedding), "embedding": embedding}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text model with random weights."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    facts = {"format": 1, "task": "text", "labels": ["no", "yes"], "columns": ["text"], "temperature": 1.0,
             "abstain_below": None, "max_tokens": 32, "truncation": "head", "cleaning": 1, "precision": "fp32",
             "embedding_dim": 4, "pad_id": 0}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    export(TinyNetwork(), tmp_path / "ir" / "model.xml", longest=32)
    return tmp_path


PREDICT = """
import json, sys
from pathlib import Path
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import predict
model = load_answering(Path(sys.argv[1]), threads=1)
output = predict(model, [model.read("a good film")])
assert abs(output.scores.sum() - 1) < 1e-6 and output.embeddings.shape == (1, 4), output
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_predicting_a_text_imports_nothing_of_learning(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PREDICT, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert {"openvino", "tokenizers"} <= imported
    assert not imported & HEAVY


WATCH = """
import json, sys
from pathlib import Path
from keepfit.app import serving
from keepfit.app.wiring import LATE, named
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import predict
folder, file = Path(sys.argv[1]), Path(sys.argv[2])
class Part:
    filename = file.name
    def save(self, target):
        target.write_bytes(file.read_bytes())
before = sorted({name.partition(".")[0] for name in sys.modules})
model = load_answering(folder, threads=1)
footage = named(LATE["intake"])(folder.parent / "videos", 60.0).video(Part(), model.facts)
output = predict(model, [model.read(str(window)) for window in footage.windows()])
assert abs(output.scores.sum() - len(output.scores)) < 1e-6, output
assert len(footage.answer(output.details)["frames"]) == 40
print(json.dumps([before, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_answering_a_video_imports_nothing_of_learning_and_a_server_of_texts_no_decoder(
    tiny_video: ModuleType, tiny_video_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    model = shutil.copytree(tiny_video_model, tmp_path / "model")
    file = tiny_video.write_video(tmp_path / "lobby.mp4", tiny_video.plaza(40))
    command = [sys.executable, "-c", WATCH, str(model), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, imported = map(set, json.loads(done.stdout))
    assert {"openvino", "av"} <= imported - before
    assert not imported & HEAVY


START = """
import json, sys
import keepfit.app.cli, keepfit.app.serving
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_server_process_starts_without_what_only_learning_needs() -> None:
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert "granian" in imported
    assert not imported & HEAVY


COMMAND = """
import json, sys
import keepfit.app.cli
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_command_starts_without_what_learns_measures_or_serves() -> None:
    """`keepfit rollback` must be quick: it loads the store, the settings and the words, and little else."""
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert {"typer", "sqlalchemy"} <= imported
    assert not imported & {*HEAVY, "flask", "granian", "prometheus_client", "openvino", "tokenizers"}
