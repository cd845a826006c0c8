"""The one model that everybody serves: the embedded backbone, fine-tuned on the same rows for each side.

keepfit trains its own (`keepfit train`); the peers get a Hugging Face folder (AutoModelForSequenceClassification) of
the same backbone and size, keepfit's encoder under a pooler and a head of their own. Both are kept in
build/benchmarks/live and made once for each source of texts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.live.texts import LABELS, Texts, read, write_learnt
from keepfit.registry import registry

WORK = Path("build/benchmarks/live")
MAX_TOKENS = 256
PASSES = 2
MODEL = "sentiment"
SETTINGS = f"""\
tracking = "local"

[log]
access = "none"

[server]
cache_mb = {{cache}}

[models.{MODEL}.recipe]
max_tokens = {MAX_TOKENS}
truncation = "head"
epochs = {PASSES}
inference = "int8"

[models.{MODEL}.gate]
floors = {{{{ accuracy = 0.0 }}}}
"""


def place() -> Path:
    """Where the models for the texts at hand are kept."""
    return WORK / ("real" if os.environ.get("KEEPFIT_DATA") else "generated")


CASCADE = f"""
[models.{MODEL}.cascade]
keeps = "agreement"
"""


def project(texts: Texts | None = None, cache_mb: int = 0, first: bool = False) -> Path:
    """The project of keepfit, trained where it is not yet, with an answer cache of this size.

    `first`: another one, with a first stage in front; it has learnt more, so that its threshold can be proven.
    """
    folder = place() / ("first" if first else "project")
    settings = SETTINGS.format(cache=cache_mb) + (CASCADE if first else "")
    done = folder / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keepfit.toml").write_text(settings, "utf-8")
    if not done.exists():
        data = write_learnt(folder / "learnt.csv", texts or read(), first)
        print("training keepfit's model ...", flush=True)
        command = [sys.executable, "-m", "keepfit.app.cli", "train", str(data), "--project", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done.touch()
    return folder


def model_folder() -> Path:
    """keepfit's model."""
    return registry.model_folder(project() / ".keepfit" / "models", MODEL, 1)


def hugging_face(texts: Texts) -> Path:
    """The peers' model."""
    folder = place() / "hugging_face"
    if not (folder / "done.json").exists():
        print("training the peers' model ...", flush=True)
        started = time.perf_counter()
        fine_tune(folder, texts)
        (folder / "done.json").write_text(json.dumps({"seconds": round(time.perf_counter() - started)}), "utf-8")
    return folder


def fine_tune(folder: Path, texts: Texts) -> None:
    """keepfit's encoder under Hugging Face's own pooler and head; only the head is learnt, which takes seconds."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from keepfit.tasks.text import network
    from keepfit.tasks.text.backbone import minilm_folder

    torch.set_num_threads(1)  # barriers of several threads wait for ever on a busy machine
    source, names = str(minilm_folder()), dict(enumerate(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(LABELS), id2label=names, label2id={name: i for i, name in names.items()}
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoder = network.load(model_folder() / "weights").encoder
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)  # it has no pooler
    rows = [row for kind in texts.learnt.values() for row in kind[: len(kind) // 8]]
    with torch.inference_mode():
        pooled = [
            model.base_model(**tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"))[1][0]
            for text, _ in rows
        ]
        head = LogisticRegression(C=10.0, max_iter=2000).fit(np.stack(pooled), [label for _, label in rows])
        weight, bias = torch.from_numpy(head.coef_[0]).float(), float(head.intercept_[0])
        model.classifier.weight.copy_(torch.stack([-weight / 2, weight / 2]))
        model.classifier.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    model.save_pretrained(folder)
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(folder)
