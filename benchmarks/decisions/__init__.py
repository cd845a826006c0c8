"""The proof of the decisions: when to alarm, when to retrain, on what, and whether the result is better."""
