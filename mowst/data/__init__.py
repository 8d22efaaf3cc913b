r"""Data sets, splits and generated graphs."""

from mowst.data.csbm import csbm
from mowst.data.info import DatasetInfo
from mowst.data.registry import (
    DATASETS,
    data_root,
    find_dataset,
    load_graph,
    load_task,
    register_dataset,
)
from mowst.data.splits import per_class_split, stratified_split

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "csbm",
    "data_root",
    "find_dataset",
    "load_graph",
    "load_task",
    "per_class_split",
    "register_dataset",
    "stratified_split",
]
