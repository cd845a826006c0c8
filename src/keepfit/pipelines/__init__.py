"""Pipelines: the stories, each told in one function."""
