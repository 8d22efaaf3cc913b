r"""Benchmarks: this package and its peers in one process, under equal settings, as ratios."""

from mowst.bench.suite import run_suite

__all__ = ["run_suite"]
