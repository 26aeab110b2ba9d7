"""Faults of the machine, injected while commands run; see `python -m benchmarks.faults`."""
