"""A Hugging Face pipeline over a file of texts (JSON): the best of some batch sizes, and the rate and answers at it."""

import json
import os
import sys
import time

import torch
from transformers import pipeline

source, few, sizes = sys.argv[1], int(sys.argv[2]), [int(size) for size in sys.argv[3].split(",")]
torch.set_num_threads(int(os.environ["TORCH_THREADS"]))
classify = pipeline("text-classification", model=os.environ["MODEL"], device="cpu")
how = {"truncation": True, "max_length": int(os.environ["MAX_TOKENS"])}
with open(source, encoding="utf-8") as file:
    texts = json.load(file)
texts.sort(key=len)  # texts of like length together, which the pipeline does not do by itself
classify(texts[:8], batch_size=8, **how)
rates = {}
for size in sizes:
    some = texts[:: max(1, len(texts) // few)]
    began = time.perf_counter()
    classify(some, batch_size=size, **how)
    rates[size] = len(some) / (time.perf_counter() - began)
best = max(rates, key=rates.get)
began = time.perf_counter()
said = classify(texts, batch_size=best, **how)
seconds = time.perf_counter() - began
answers = {text: one["label"] for text, one in zip(texts, said, strict=True)}
print(json.dumps({"rates": rates, "best": best, "per_s": len(texts) / seconds, "answers": answers}))
