"""Evaluation: how good a model is, before users see it."""
