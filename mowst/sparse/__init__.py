r"""Graphs and features as constant sparse matrices, and their products."""

from mowst.sparse.features import Features, RowTaker, as_tensor
from mowst.sparse.graph import Graph, as_graph
from mowst.sparse.sampler import NeighborSampler
from mowst.sparse.subgraph import Subgraph

__all__ = ["Features", "Graph", "NeighborSampler", "RowTaker", "Subgraph", "as_graph", "as_tensor"]
