"""A Hugging Face pipeline behind BentoML, with its adaptive batching."""

import os

import bentoml
import torch
from transformers import pipeline


@bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 512})
class Sentiment:
    """BentoML's form of a model."""

    def __init__(self):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.classify = pipeline("text-classification", model=os.environ["MODEL"], device="cpu")
        self.longest = int(os.environ["MAX_TOKENS"])

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=60_000)
    def predict(self, text: list[str]) -> list[dict]:
        """A batch."""
        return self.classify(text, truncation=True, max_length=self.longest, batch_size=len(text))
