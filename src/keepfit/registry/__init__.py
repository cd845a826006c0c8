"""Registry: what we know of every model."""
