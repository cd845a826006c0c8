"""Benchmarks of decisions: when to alarm, when to retrain, on what, and whether it is better."""
