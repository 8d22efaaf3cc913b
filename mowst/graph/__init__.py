"""Graphs and features as constant sparse matrices, and their products."""
