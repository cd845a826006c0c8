"""Scoring of whole files: keepfit against what people use, on the same cores, with the same texts."""
