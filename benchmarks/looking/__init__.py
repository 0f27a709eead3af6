"""What the console costs, and how fast it opens: see benchmarks/console.py."""
