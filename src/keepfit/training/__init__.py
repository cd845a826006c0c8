"""Training: how any network learns; knows no task."""
