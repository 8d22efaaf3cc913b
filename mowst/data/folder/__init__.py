r"""A folder of your own files as a task.

.. code-block:: text

    features.npy|npz|csv|parquet     a row of numbers for each node
    edges.npy|csv|parquet            a row for each edge: source, target and optionally weight
    labels.npy|csv|parquet           a row for each node: its class
    splits.npy|csv|parquet           a row for each node: train, val, test or nothing
                                     (a column for each split)
    or train_mask, val_mask, test_mask (the same with 0 and 1)
    or train, val, test (the nodes, one in each row)

**Nodes** are the rows of the features, numbered from 0. A column :obj:`id`, :obj:`node` or
:obj:`node_id` in the features names them instead; edges, labels and splits then use these names.
Any file with such a column may list its nodes in any order and omit some. A :obj:`features.npy` of
float32 in C order is memory-mapped and may be larger than memory.

**Edges** are directed. An undirected edge is two rows, or the transform :obj:`"undirected"` adds
the reverse edges.

**Labels** are 0, 1, 2, ..., or names throughout. Classes are then numbered in alphabetical order
and listed in :obj:`data.class_names`. An empty cell, NaN or -1 is a missing label. Prediction needs
no labels. The names of the feature columns, if they have names, are :obj:`data.feature_names`.

**Splits** are optional, and may have no test nodes. Without splits a seeded draw takes 50/25/25 %
of every class.

A :obj:`.csv` file may have a header, and needs one to have ids. The header is

- for features a row without any number,
- for edges the names :obj:`source`, :obj:`target`, :obj:`weight` (or :obj:`src`, :obj:`from`,
  :obj:`u`; :obj:`dst`, :obj:`to`, :obj:`v`),
- for labels :obj:`label`, :obj:`y` or :obj:`class`,
- for splits a row without any split.

In a :obj:`.parquet` file the columns have these names.
"""

from mowst.data.folder.reader import load_folder, load_folder_graph

__all__ = ["load_folder", "load_folder_graph"]
