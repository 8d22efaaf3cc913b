"""Graphs and features as constant sparse matrices, and their products."""

from mowst.graph.adjacency import Adjacency, adjacency
from mowst.graph.features import sparse_features
from mowst.graph.propagate import Operator, propagate

__all__ = ["Adjacency", "Operator", "adjacency", "propagate", "sparse_features"]
