"""What `benchmarks.faults` is made of: a project that runs, users who keep accounts, faults, and what must hold."""
