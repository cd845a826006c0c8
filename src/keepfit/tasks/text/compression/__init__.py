"""Compression of text models: fewer words, smaller tables, int8, fewer layers; each judged before it is taken."""
