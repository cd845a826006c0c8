"""Serving: answering."""
