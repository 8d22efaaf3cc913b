r"""A folder of your own files as a task.

.. code-block:: text

    features.csv|npy|npz|parquet     a row of numbers for each node
    edges.csv|npy|parquet            a row for each edge: source, target and optionally weight
    labels.csv|npy|parquet           a row for each node: its class
    splits.csv|npy|parquet           a row for each node: train, val, test or nothing
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
no labels. A missing value may be spelled as pandas reads it: NA, null, None, ... The names of the
feature columns, if they have names, are :obj:`data.feature_names`.

**Splits** are optional, and may have no test nodes. Without splits a seeded draw takes 50/25/25 %
of every class.

**Text** is UTF-8 or UTF-16, also as :obj:`.tsv`, :obj:`.txt` or compressed (:obj:`.csv.gz`). Cells
are separated by commas, semicolons, tabs, bars or, between numbers, spaces; with other separators
than the comma, decimal commas are read. A header is needed for ids. It is

- for features a row without any number,
- for edges the names :obj:`source`, :obj:`target`, :obj:`weight` (or :obj:`src`, :obj:`from`,
  :obj:`u`; :obj:`dst`, :obj:`to`, :obj:`v`),
- for labels :obj:`label`, :obj:`y` or :obj:`class`, or a row more than there are nodes,
- for splits a row without any split.

**An index** that pandas or R writes before the columns is no feature. If it does not count the rows
from 0, it names the nodes. The numbers 0, 1, 2, ... that pandas writes as a header are no row. If a
file can be read in two ways, an error names the line and how to write it. Whatever is left out,
missing or rounded is counted in :meth:`mowst.GraphTask.report`.

In a :obj:`.parquet` file the columns have these names.
"""

from mowst.data.folder.reader import load_folder, load_folder_graph

__all__ = ["load_folder", "load_folder_graph"]
