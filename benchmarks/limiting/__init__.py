"""The parts of `benchmarks/limits.py`."""
