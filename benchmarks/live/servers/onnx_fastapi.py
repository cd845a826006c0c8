"""ONNX Runtime, dynamically quantised to int8, behind FastAPI; exports the network where that is not done yet.

As ONNX Runtime's own documents advise for transformers on a CPU: opset 17, fused graph optimisations, dynamic
quantisation; one session with all cores.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

FOLDER = Path(os.environ["MODEL"])
NETWORK = FOLDER / "onnx" / "int8.onnx"
LABELS = ("negative", "positive")


def export():
    """Write the fp32 network and the int8 one."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    NETWORK.parent.mkdir(exist_ok=True)
    model = AutoModelForSequenceClassification.from_pretrained(FOLDER, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    sample = tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names)
    axes = {name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}}
    whole = NETWORK.with_name("fp32.onnx")
    torch.onnx.export(
        model, sample, str(whole), input_names=names, output_names=["logits"], dynamic_axes=axes, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    quantize_dynamic(whole, NETWORK, weight_type=QuantType.QInt8)


if not NETWORK.exists():
    export()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = len(os.sched_getaffinity(0))
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(str(NETWORK), options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(int(os.environ["MAX_TOKENS"]))
app = FastAPI()


class Body(BaseModel):
    """A request."""

    text: str


@app.post("/predict")
def predict(body: Body):
    """One text; FastAPI runs this on one of its threads."""
    ids = np.array([tokenizer.encode(body.text).ids], np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    logits = session.run(["logits"], inputs)[0][0]
    powers = np.exp(logits - logits.max())
    scores = powers / powers.sum()
    best = int(scores.argmax())
    return {"label": LABELS[best], "score": float(scores[best])}
