from dataclasses import replace

import networkx as nx
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.utils import from_networkx

from mowst.metrics import METRICS
from mowst.task import GraphTask

N = 12


def graph(**changes) -> Data:
    generator = torch.Generator().manual_seed(0)
    nodes = torch.arange(N)
    data = Data(
        x=torch.randn(N, 4, generator=generator),
        edge_index=torch.stack([nodes, nodes.roll(1)]),
        y=nodes % 2,
        population=nodes // 6,
    )
    for key, value in changes.items():
        data[key] = value
    return data


def thirds(**changes) -> dict[str, torch.Tensor]:
    third = torch.arange(N) // 4
    return {"train": third == 0, "val": third == 1, "test": third == 2} | changes


def task(**changes) -> GraphTask:
    return GraphTask(**{"data": graph(), "masks": thirds(), "num_classes": 2} | changes)


def probabilities() -> torch.Tensor:
    return torch.rand(N, 2, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)


def test_a_task_holds_the_graph():
    made = task(name="ring")
    assert (
        str(made)
        == "GraphTask(ring, nodes=12, edges=12, features=4, classes=2, metric=accuracy, split=0)"
    )
    assert made.index("val").tolist() == [4, 5, 6, 7]
    assert made.labels("val").tolist() == [0, 1, 0, 1]
    assert made.index("val") is made.index("val")
    assert "population" in made.data


@pytest.mark.parametrize("metric", METRICS)
def test_evaluate_is_the_metric_on_the_split(metric):
    made, prob = task(metric=metric), probabilities()
    for split, mask in made.masks.items():
        assert made.evaluate(prob, split) == METRICS[metric](prob[mask], made.data.y[mask])


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_expected_score_of_certain_routing_is_the_expert_score(metric):
    made, weak, strong = task(metric=metric), probabilities(), probabilities().flip(0)
    for confidence, expert in ((torch.ones(N), weak), (torch.zeros(N), strong)):
        expected = made.expected(weak, strong, confidence, "test")
        assert expected == pytest.approx(made.evaluate(expert, "test"))


def test_expected_score_of_f1_is_undefined():
    prob = probabilities()
    assert task(metric="f1").expected(prob, prob, torch.ones(N), "val") is None


def test_nll_is_cross_entropy_of_the_logits():
    made, logits = task(), torch.randn(N, 2, generator=torch.Generator().manual_seed(2))
    index = made.index("val")
    loss = torch.nn.functional.cross_entropy(logits[index], made.labels("val"))
    torch.testing.assert_close(made.nll(logits.softmax(dim=-1), "val"), loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nll_is_finite_where_a_probability_underflows(dtype):
    made = task()
    prob = torch.nn.functional.one_hot(1 - made.data.y, 2).to(dtype)
    assert made.nll(prob, "val").isfinite() and made.nll(1 - prob, "val") == 0


def test_predictions_are_checked():
    with pytest.raises(ValueError, match=r"shape \(12, 2\) or \(4, 2\) \(val\), got \(5, 2\)"):
        task().evaluate(probabilities()[:5])
    with pytest.raises(ValueError, match="val nodes of 'graph' hold NaN"):
        task().evaluate(probabilities() * torch.nan)
    with pytest.raises(ValueError, match="'graph' has no split 'valid'; known: train, val, test"):
        task().evaluate(probabilities(), "valid")
    with pytest.raises(ValueError, match=r"confidence must be of shape \(12,\), got \(12, 1\)"):
        task().expected(probabilities(), probabilities(), torch.ones(N, 1))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_prediction_on_all_nodes_and_on_the_split_alone_score_the_same(split):
    made, prob = task(), probabilities()
    own = prob[made.index(split)]
    assert made.evaluate(prob, split) == made.evaluate(own, split)
    assert made.nll(prob, split) == made.nll(own, split)


def test_to_and_replace_leave_the_task_alone():
    made = task(name="ring", preprocessing=("undirected",))
    moved = made.to("cpu")
    assert moved is not made and moved.data is not made.data
    assert moved.preprocessing == made.preprocessing and str(moved) == str(made)
    masks = thirds()
    turned = {"train": masks["test"], "val": masks["train"], "test": masks["val"]}
    other = replace(made, masks=turned, split="turned")
    assert other.index("val").tolist() == [0, 1, 2, 3] and made.index("val").tolist() == [
        4,
        5,
        6,
        7,
    ]
    assert other.data is made.data and other.split == "turned"
    with pytest.raises(ValueError, match="4 nodes are in both train and val"):
        replace(made, masks=masks | {"val": masks["train"]})


@pytest.mark.parametrize(
    "y",
    [
        torch.arange(N) % 2,
        (torch.arange(N) % 2).to(torch.int32),
        (torch.arange(N) % 2).view(N, 1),
        (torch.arange(N) % 2).double().view(N, 1),
        (torch.arange(N) % 2).bool(),
    ],
    ids=["ids", "int32", "column", "floats", "bools"],
)
def test_from_data_reads_labels(y):
    data = graph(y=y, **{f"{key}_mask": mask for key, mask in thirds().items()})
    made = GraphTask.from_data(data, name="ring")
    assert made.data.y.equal(torch.arange(N) % 2) and made.num_classes == 2
    assert data.y is y and "train_mask" in data and "train_mask" not in made.data


def test_from_data_reads_nan_as_unlabelled():
    y = (torch.arange(N) % 2).float()
    y[:2] = torch.nan
    masks = {f"{key}_mask": mask & ~y.isnan() for key, mask in thirds().items()}
    made = GraphTask.from_data(graph(y=y, **masks))
    assert made.data.y[:4].tolist() == [-1, -1, 0, 1]
    with pytest.raises(ValueError, match="2 train nodes have no label, the first is node 0"):
        GraphTask.from_data(graph(y=y, **{f"{key}_mask": mask for key, mask in thirds().items()}))


def test_from_data_picks_the_split():
    columns = {
        f"{key}_mask": torch.stack([mask, mask.roll(4)], dim=1) for key, mask in thirds().items()
    }
    made = GraphTask.from_data(graph(**columns), split=1)
    assert made.index("train").tolist() == [4, 5, 6, 7] and made.split == 1
    with pytest.raises(ValueError, match="no split 2: data.train_mask holds 2, 0 to 1"):
        GraphTask.from_data(graph(**columns), split=2)


def test_from_data_needs_masks():
    with pytest.raises(ValueError, match="data.train_mask is missing"):
        GraphTask.from_data(graph())
    with pytest.raises(ValueError, match="data.val_mask is missing"):
        GraphTask.from_data(graph(train_mask=torch.ones(N, dtype=torch.bool)))


@pytest.mark.parametrize("inductive", [False, True])
def test_the_test_split_is_optional(inductive):
    masks = {f"{key}_mask": mask for key, mask in thirds().items() if key != "test"}
    made = GraphTask.from_data(graph(**masks), inductive=inductive)
    assert made.splits == ("train", "val") and made.visible is made
    assert made.evaluate(probabilities(), "val") == task().evaluate(probabilities(), "val")
    for use in (made.evaluate, made.score, made.nll):
        with pytest.raises(ValueError, match="'graph' has no split 'test'; known: train, val"):
            use(probabilities(), "test")
    assert task(masks=dict(reversed(thirds().items()))).splits == ("train", "val", "test")


def test_the_visible_part_of_an_inductive_task_is_without_test_nodes():
    made = task(inductive=True, class_weight="balanced", preprocessing=("undirected",))
    seen = made.visible
    assert seen.splits == ("train", "val") and seen.num_nodes == 8 and made.visible is seen
    assert seen.data.edge_index.t().tolist() == [[k, k - 1] for k in range(1, 8)]
    assert seen.data.x.equal(made.data.x[:8]) and seen.index("val").equal(made.index("val"))
    assert (seen.class_weight, seen.preprocessing) == ("balanced", ("undirected",))
    assert task().visible.splits == ("train", "val", "test")


def with_value(tensor: torch.Tensor, index: tuple[int, ...] | int, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


NOWHERE, RING = torch.zeros(N, dtype=torch.bool), graph()

PROBLEMS = {
    "no x": (dict(data=graph(x=None)), "x is missing"),
    "flat x": (
        dict(data=graph(x=torch.ones(N))),
        r"x must be \[nodes, features\], got shape \(12,\)",
    ),
    "int x": (
        dict(data=graph(x=torch.ones(N, 2).long())),
        "x must be floating point, got torch.int64",
    ),
    "nan": (
        dict(data=graph(x=with_value(RING.x, (5, 2), torch.nan))),
        "1 NaN or infinite .* node 5, column 2",
    ),
    "inf": (
        dict(data=graph(x=with_value(RING.x, (5, 2), torch.inf))),
        "1 NaN or infinite .* node 5, column 2",
    ),
    "no nodes": (dict(data=Data(x=torch.ones(0, 2))), "the graph has no nodes"),
    "no edges": (dict(data=graph(edge_index=None)), "edge_index is missing"),
    "edge shape": (
        dict(data=graph(edge_index=RING.edge_index.t())),
        r"edge_index must be .* \(12, 2\)",
    ),
    "edge dtype": (
        dict(data=graph(edge_index=RING.edge_index.int())),
        "edge_index must be int64 .* torch.int32",
    ),
    "edge out": (
        dict(data=graph(edge_index=with_value(RING.edge_index, (1, 3), N))),
        r"1 edges leave the nodes 0 to 11, the first is edge 3: \[3, 12\]",
    ),
    "weights": (
        dict(data=graph(edge_weight=torch.ones(3))),
        r"one entry for each of 12 edges, got \(3,\)",
    ),
    "nan weight": (
        dict(data=graph(edge_weight=torch.full((N,), torch.nan))),
        "12 edge weights are NaN or infinite, .* edge 0",
    ),
    "no y": (dict(data=graph(y=None)), "y is missing"),
    "short y": (
        dict(data=graph(y=torch.arange(3))),
        r"y must be int64 of shape \(12,\), got torch.int64 of \(3,\)",
    ),
    "float y": (dict(data=graph(y=torch.rand(N))), "y holds real numbers, of torch.float32"),
    "multilabel": (
        dict(data=graph(y=torch.ones(N, 3).long())),
        r"several labels per node must be int64 of \(12, 2\), got torch.int64 of \(12, 3\)",
    ),
    "one class": (
        dict(data=graph(y=torch.zeros(N).long())),
        "classes with a labelled node is 1; it must be 2 or more",
    ),
    "label out": (
        dict(data=graph(y=with_value(RING.y, 7, 5))),
        "1 labels are outside 0 to 1, or -1 for none, .* node 7: 5",
    ),
    "negative": (
        dict(data=graph(y=with_value(RING.y, 7, -2))),
        "1 labels are outside 0 to 1, or -1 for none, .* node 7: -2",
    ),
    "unlabelled": (
        dict(data=graph(y=with_value(RING.y, 7, -1))),
        "1 val nodes have no label, the first is node 7",
    ),
    "missing": (dict(masks={"train": ~NOWHERE}), "the masks lack val; given: train"),
    "mask shape": (
        dict(masks=thirds(val=NOWHERE[:3])),
        r"the val mask must be bool of shape \(12,\), .* \(3,\)",
    ),
    "mask dtype": (
        dict(masks=thirds(val=torch.ones(N))),
        "the val mask must be bool .* torch.float32",
    ),
    "empty": (dict(masks=thirds(val=NOWHERE)), "the val mask is empty"),
    "overlap": (
        dict(masks=thirds(val=torch.arange(N) == 3)),
        "1 nodes are in both train and val, the first is node 3",
    ),
    "metric": (dict(metric="auc"), "the metric 'auc' is unknown; known: accuracy, roc_auc, f1"),
    "auc": (dict(metric="roc_auc", num_classes=3), "roc_auc needs 2 classes, the task has 3"),
    "classes": (dict(num_classes=13), "13 classes are more than 12 nodes"),
    "weight name": (
        dict(class_weight="equal"),
        "class_weight must be 2 numbers above zero or 'balanced', got 'equal'",
    ),
    "weight count": (
        dict(class_weight=[1.0]),
        r"class_weight must be 2 numbers above zero or 'balanced', got \[1.0\]",
    ),
    "weight zero": (dict(class_weight=[1.0, 0.0]), "class_weight must be 2 numbers above zero"),
    "auc split": (
        dict(metric="roc_auc", masks=thirds(val=torch.arange(N) == 4)),
        "the val nodes hold one class; roc_auc needs both",
    ),
}


@pytest.mark.parametrize("changes, problem", PROBLEMS.values(), ids=PROBLEMS)
def test_problems_are_named(changes, problem):
    with pytest.raises(ValueError, match=problem):
        task(**changes)


def test_problems_are_collected():
    broken = graph(x=with_value(RING.x, (0, 0), torch.nan), edge_index=RING.edge_index + 1)
    with pytest.raises(ValueError) as error:
        task(data=broken, metric="auc", masks=thirds(test=NOWHERE), name="broken")
    lines = str(error.value).splitlines()
    assert lines[0] == "The task 'broken' cannot be used:" and len(lines) == 5


def test_large_finite_features_are_fine():
    task(data=graph(x=torch.full((N, 4), torch.finfo(torch.float32).max)))


def test_balanced_weights_give_every_class_of_the_training_nodes_the_same_sum():
    y = torch.tensor([0, 0, 0, 1, 0, 1, 2, 0, 0, 1, 2, 0])
    made = task(data=graph(y=y), num_classes=4, class_weight="balanced")
    assert made.class_weights.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1), 1, 1])
    assert made.class_weights[made.labels("train")].mean() == pytest.approx(1)
    assert task().class_weights is None and task(class_weight=(1, 3)).class_weights.tolist() == [
        1,
        3,
    ]


def test_nll_under_class_weights_is_weighted_cross_entropy():
    made, logits = (
        task(class_weight=[1.0, 5.0]),
        torch.randn(N, 2, generator=torch.Generator().manual_seed(2)),
    )
    y = made.labels("val")
    loss = cross_entropy(logits[made.index("val")], y, weight=torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(made.nll(logits.softmax(dim=-1)), loss)
    assert made.nll(logits.softmax(dim=-1)) != task().nll(logits.softmax(dim=-1))
    assert made.evaluate(logits.softmax(dim=-1)) == task().evaluate(logits.softmax(dim=-1))


def test_fields_survive_every_copy():
    made = task(class_weight="balanced", inductive=True, repaired=("x was repaired",))
    for other in (
        made.to("cpu"),
        replace(made, masks=thirds(val=thirds()["test"], test=thirds()["val"])),
        replace(made, name="a"),
    ):
        assert (other.class_weight, other.inductive, other.repaired) == (
            "balanced",
            True,
            ("x was repaired",),
        )


def karate(**attributes):
    made = nx.karate_club_graph()
    for node in made:
        words = {"split": ("train", "val", "test")[node % 3], "y": made.nodes[node].pop("club")}
        made.nodes[node].update(degree=made.degree(node), square=node**2, **words)
    for name, values in attributes.items():
        nx.set_node_attributes(made, values, name)
    return from_networkx(made, group_node_attrs=["degree", "square"])


def test_a_networkx_graph_of_pyg_is_the_adjacency_matrix():
    made = GraphTask.from_data(karate())
    dense = torch.zeros(34, 34).index_put_(tuple(made.data.edge_index), made.data.edge_weight)
    assert dense.equal(torch.from_numpy(nx.to_numpy_array(nx.karate_club_graph())).float())
    assert made.data.x[5].tolist() == [4, 25] and made.data.class_names == ["Mr. Hi", "Officer"]
    assert made.data.y[[0, 33]].tolist() == [0, 1] and made.index("val").tolist()[:2] == [1, 4]
    assert "weight is edge_weight" in made.report().repaired


def test_missing_labels_and_masks_in_lists():
    masks = {
        f"{key}_mask": {n: n % 3 == k for n in range(34)}
        for k, key in enumerate(("train", "val", "test"))
    }
    masks["test_mask"] = {n: {2: None, 5: 1.0}.get(n, n % 3 == 2) for n in range(34)}
    data = karate(**masks, y={3: None, 6: float("nan"), 9: pd.NA, 12: pd.NaT})
    data.train_mask = [n % 3 == 0 and n not in (3, 6, 9, 12) for n in range(34)]
    made = GraphTask.from_data(data)
    assert (made.data.y < 0).nonzero().view(-1).tolist() == [3, 6, 9, 12]
    assert made.index("test").tolist() == [n for n in range(5, 34) if n % 3 == 2]


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"y": {7: 1}}, "node 0 has the label 'Mr. Hi'; give whole numbers, or names throughout"),
        ({"split": {7: "tset"}}, "node 7 has the split 'tset'; known: train, val, test"),
        ({"y": {7: [0, 1]}}, r"node 7 has the labels \[0, 1\]: several labels per node"),
        ({"train_mask": dict.fromkeys(range(34), "maybe")}, "node 0 has the train_mask 'maybe'"),
    ],
    ids=str,
)
def test_a_list_names_the_node(attributes, problem):
    with pytest.raises(ValueError, match=problem):
        GraphTask.from_data(karate(**attributes))
