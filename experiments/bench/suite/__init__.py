r"""Benchmarks: this package and its peers in one process, under equal settings, as ratios."""
