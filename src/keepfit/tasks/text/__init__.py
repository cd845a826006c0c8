"""The text task: transformer classifiers."""
