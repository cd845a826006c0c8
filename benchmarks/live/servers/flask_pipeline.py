"""A Hugging Face pipeline behind Flask; run by gunicorn with threads."""

import os

import torch
from flask import Flask, request
from transformers import pipeline

torch.set_num_threads(int(os.environ["TORCH_THREADS"]))
classify = pipeline("text-classification", model=os.environ["MODEL"], device="cpu")
longest = int(os.environ["MAX_TOKENS"])
app = Flask(__name__)


@app.post("/predict")
def predict():
    """One text."""
    return classify(request.get_json()["text"], truncation=True, max_length=longest)
