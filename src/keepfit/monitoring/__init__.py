"""Monitoring: looking back at what was answered."""
