"""A Hugging Face pipeline behind LitServe, with its batching."""

import os
import sys

import litserve
import torch
from transformers import pipeline


class Sentiment(litserve.LitAPI):
    """LitServe's form of a model."""

    def setup(self, device):
        """In the worker."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.classify = pipeline("text-classification", model=os.environ["MODEL"], device="cpu")
        self.longest = int(os.environ["MAX_TOKENS"])

    def decode_request(self, request):
        """The text."""
        return request["text"]

    def predict(self, texts):
        """A batch."""
        return self.classify(list(texts), truncation=True, max_length=self.longest, batch_size=len(texts))

    def encode_response(self, output):
        """One answer."""
        return output


if __name__ == "__main__":
    api = Sentiment(max_batch_size=16, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
