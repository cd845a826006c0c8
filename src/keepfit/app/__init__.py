"""Doors: the only rooms that read settings and talk to the outside."""
