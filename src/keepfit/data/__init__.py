"""Data: what happened, and every value that is stored."""
