"""The demonstration: one command that lets a model go stale and shows keepfit noticing and repairing it."""
