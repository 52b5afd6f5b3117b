"""Ratios against peers and limits, each a command: `python -m benchmarks.NAME [--quick]`."""
