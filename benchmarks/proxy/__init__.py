"""The parts of `benchmarks/proxy.py`."""
