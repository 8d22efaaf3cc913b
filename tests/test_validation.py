import logging
import re

import pytest
import torch
from torch_geometric.data import Data

from mowst import GraphTask, graph_checks
from mowst.convert import read_labels, repair
from mowst.validation import Report, find_remarks

N = 8


def graph(**changes) -> Data:
    r"""A ring that runs both ways, without remarks."""
    nodes = torch.arange(N)
    ring = torch.stack([nodes, nodes.roll(1)])
    data = Data(x=torch.eye(N), y=nodes % 2, edge_index=torch.cat([ring, ring.flip(0)], dim=1))
    for key, value in changes.items():
        data[key] = value
    return data


def masks() -> dict[str, torch.Tensor]:
    nodes = torch.arange(N)
    return {"train": nodes < 4, "val": (nodes == 4) | (nodes == 5), "test": nodes > 5}


def with_masks(data: Data) -> Data:
    return data.update({f"{key}_mask": mask for key, mask in masks().items()})


def edges(*pairs: tuple[int, int]) -> torch.Tensor:
    return torch.cat([graph().edge_index, torch.tensor(pairs).t()], dim=1)


REMARKS = {
    "nothing": ({}, []),
    "constant": (
        dict(x=torch.cat([torch.eye(N), torch.ones(N, 2)], dim=1)),
        ["2 of 10 .* constant, .* column 8"],
    ),
    "loop": (
        dict(edge_index=edges((3, 3))),
        [r"1 edges are self-loops, the first is edge 16: \[3, 3\]"],
    ),
    "double": (
        dict(edge_index=edges((1, 2), (1, 2), (7, 0))),
        [r"3 edges repeat another, such as \(1, 2\)"],
    ),
    "one way": (
        dict(edge_index=edges((2, 7))),
        [r"1 of 17 edges have no reverse, such as \(2, 7\)"],
    ),
    "isolated": (
        dict(edge_index=torch.tensor([[0, 1, 6], [1, 0, 6]])),
        [
            r"1 edges are self-loops, the first is edge 2: \[6, 6\]",
            "6 nodes are isolated, the first is node 2",
        ],
    ),
    "absent": (
        dict(y=torch.tensor([0, 1, 0, 1, 2, 2, 1, 0])),
        ["1 of 3 classes have no training node, .* class 2"],
    ),
    "unlabelled": (
        dict(y=torch.tensor([0, 1, 0, 1, 0, 1, -1, -1])),
        [r"2 of 8 .* no label \(25.0%\), .* node 6"],
    ),
    "no edges": (dict(edge_index=torch.empty(2, 0, dtype=torch.int64)), ["8 nodes are isolated"]),
}


@pytest.mark.parametrize(("changes", "lines"), REMARKS.values(), ids=REMARKS)
def test_what_may_be_a_mistake_is_a_remark(changes, lines):
    data = graph(**changes)
    found = find_remarks(data, masks(), num_classes=int(data.y.max()) + 1)
    assert len(found) == len(lines) and all(map(re.search, lines, found))


REPAIRS = {
    "float64": (dict(x=torch.eye(N).double()), ["x was float64, is float32"]),
    "integers": (dict(x=torch.eye(N).long()), ["x was int64, is float32"]),
    "int32": (dict(edge_index=graph().edge_index.int()), ["edge_index was int32, is int64"]),
    "column": (dict(y=graph().y.view(N, 1)), ["y was of shape (8, 1), is of (8,)"]),
    "floats": (dict(y=graph().y.double()), ["y was float64, is int64"]),
    "weights": (
        dict(edge_weight=torch.ones(2 * N, 1).double()),
        ["edge_weight was float64, is float32", "edge_weight was of shape (16, 1), is of (16,)"],
    ),
    "mask": (dict(train_mask=masks()["train"].to(torch.uint8)), ["train_mask was uint8, is bool"]),
}


@pytest.mark.parametrize(("changes", "lines"), REPAIRS.values(), ids=REPAIRS)
def test_repairs_are_said_and_change_no_value(changes, lines, caplog):
    data = with_masks(graph()).update(changes)
    before = {key: value.clone() for key, value in data.to_dict().items()}
    task = GraphTask.from_data(data, name="ring")
    assert task.repaired == tuple(lines) == task.report().repaired
    assert [record.message for record in caplog.records] == [f"ring: {line}" for line in lines]
    assert all(torch.equal(data[key], value) for key, value in before.items())
    clean = GraphTask.from_data(with_masks(graph(edge_weight=torch.ones(2 * N))))
    for key in ("x", "edge_index", "y"):
        assert (
            task.data[key].equal(clean.data[key]) and task.data[key].dtype == clean.data[key].dtype
        )
    assert all(task.masks[key].equal(mask) for key, mask in clean.masks.items())


def test_nan_labels_are_repaired_and_counted():
    y = graph().y.float()
    y[6] = torch.nan
    data, done = repair(graph(y=y))
    assert data.y.tolist() == [0, 1, 0, 1, 0, 1, -1, 1]
    assert done == ["y was float32, is int64", "1 labels were NaN, are -1 (none)"]


def test_a_graph_that_needs_none_is_not_repaired_and_not_copied():
    data = with_masks(graph())
    repaired, done = repair(data)
    assert done == [] and all(repaired[key] is value for key, value in data.to_dict().items())


@pytest.mark.parametrize(
    "y", [torch.rand(N), torch.full((N,), torch.inf)], ids=["fractions", "infinite"]
)
def test_labels_that_mean_nothing_are_not_repaired(y):
    with pytest.raises(ValueError, match="y holds real numbers|y must be int64"):
        GraphTask.from_data(with_masks(graph(y=y)))


def test_reports_print_one_line_for_each():
    report = GraphTask.from_data(
        with_masks(graph(x=torch.eye(N).double(), edge_index=edges((3, 3))))
    ).report()
    lines = str(report).splitlines()
    assert lines[0].startswith("GraphTask(graph, nodes=8")
    assert lines[1:] == [
        "  repaired: x was float64, is float32",
        "  remark: 1 edges are self-loops, the first is edge 16: [3, 3]",
    ]
    assert str(Report("title")) == "title"


@pytest.mark.parametrize(("level", "heard"), [(logging.WARNING, 0), (logging.INFO, 1)])
def test_remarks_are_computed_for_a_log_that_shows_them(level, heard, caplog, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "mowst.task.find_remarks", lambda *args: calls.append(args) or ["something"]
    )
    with caplog.at_level(level, logger="mowst.task"):
        GraphTask.from_data(with_masks(graph()), name="ring")
    assert len(calls) == heard and ["ring: something"] * heard == caplog.messages


@pytest.mark.parametrize(
    ("values", "ids", "names"),
    [
        ([0, 2, 1], [0, 2, 1], None),
        (
            ["0", " 1 ", "1.0", "", "nan", None, "-1", float("nan")],
            [0, 1, 1, -1, -1, -1, -1, -1],
            None,
        ),
        (["b", "a", "", "b"], [1, 0, -1, 1], ["a", "b"]),
        (["1_0", "1_1"], [0, 1], ["1_0", "1_1"]),
        ([True, False], [1, 0], ["False", "True"]),
        ([torch.tensor(1), torch.tensor(0)], [1, 0], None),
    ],
    ids=str,
)
def test_labels_are_numbers_or_names(values, ids, names):
    assert (read_labels(values)[0].tolist(), read_labels(values)[1]) == (ids, names)


@pytest.mark.parametrize(
    ("values", "position"),
    [([0, "a"], 1), (["a", "1"], 0), ([0, 0.5], 1), ([1, 2**40], 1), (["0;1", "a"], 0)],
    ids=str,
)
def test_anything_else_is_refused_where_it_stands(values, position):
    with pytest.raises(ValueError, match=f"node {position} has the label"):
        read_labels(values)


def test_features_are_checked_in_chunks_and_counted_over_all_of_them(monkeypatch):
    monkeypatch.setattr(graph_checks, "ROWS", 3)
    x = torch.eye(N)
    x[4, 2], x[7, 0], x[7, 1] = float("nan"), float("inf"), -float("inf")
    with pytest.raises(
        ValueError, match="x holds 3 NaN or infinite values, the first at node 4, column 2"
    ):
        GraphTask(graph(x=x), masks(), num_classes=2)
    # The sum of the second chunk overflows, its values do not.
    GraphTask(graph(x=torch.eye(N) * 1e38 + 1e38), masks(), num_classes=2)
