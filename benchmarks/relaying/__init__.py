"""What `benchmarks/relay.py` runs."""
