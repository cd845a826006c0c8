"""Saves the Hugging Face pipeline as an MLflow model: python mlflow_model.py TARGET."""

import os
import sys

import mlflow
from transformers import pipeline

classify = pipeline(
    "text-classification", model=os.environ["MODEL"], device="cpu", truncation=True,
    max_length=int(os.environ["MAX_TOKENS"]),
)  # fmt: skip
mlflow.transformers.save_model(classify, sys.argv[1], pip_requirements=["transformers"])
