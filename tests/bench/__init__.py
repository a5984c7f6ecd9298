"""Benchmarks, as ratios measured in one run: the machines are shared, so times alone mean little."""
