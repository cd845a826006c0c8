"""Benchmarks of the decision layer: when to retrain, on what, is it better."""
