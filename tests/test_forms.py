import types

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Data, HeteroData, InMemoryDataset

from mowst import GCN, MLP, GraphTask, MonotoneGate, Mowst, TrainConfig, fit

pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
N = 12
MASKS = ("train_mask", "val_mask", "test_mask")


def graph(**changes) -> Data:
    nodes = torch.arange(N)
    data = Data(
        x=torch.eye(N)[:, :5],
        edge_index=torch.stack([nodes, (nodes * 5 + 1) % N]),  # directed
        y=nodes % 2,
    )
    for k, key in enumerate(MASKS):
        data[key] = nodes // 4 == k
    return data.update(changes)


def find_arrows(data: Data) -> list[tuple]:
    weight = data.edge_weight if data.edge_weight is not None else torch.ones(data.num_edges)
    return sorted(zip(*data.edge_index.tolist(), weight.tolist(), strict=True))


class Transposed:
    r"""A SparseTensor of torch_sparse, which need not be installed."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def coo(self):
        return self.data.edge_index[1], self.data.edge_index[0], self.data.edge_weight


ADJACENCIES = {
    "csr": T.ToSparseTensor(layout=torch.sparse_csr),
    "coo": T.ToSparseTensor(layout=torch.sparse_coo),
    "torch_sparse": lambda data: Data(adj_t=Transposed(data.clone())).update(
        {key: data[key] for key in ("x", "y", *MASKS)}
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("change", ADJACENCIES.values(), ids=ADJACENCIES)
def test_adj_t_is_read_from_target_to_source(change, weighted):
    data = graph(edge_weight=torch.rand(N)) if weighted else graph()
    made = GraphTask.from_data(change(data.clone()))
    assert find_arrows(made.data) == find_arrows(data) and "adj_t" not in made.data
    line = "adj_t is edge_index and edge_weight" if weighted else "adj_t is edge_index"
    assert made.report().repaired == (line,)


FORMS = {
    "sparse": lambda value: value.to_sparse_csr(),
    "coo": lambda value: value.to_sparse_coo(),
    "scipy": lambda value: sp.csr_matrix(value.numpy()),
    "numpy": lambda value: value.numpy(),
    "read only": lambda value: np.broadcast_to(value.numpy()[None], (1, *value.shape))[0],
    "big endian": lambda value: value.numpy().astype(value.numpy().dtype.newbyteorder(">")),
    "objects": lambda value: value.numpy().astype(object),
    "list": lambda value: value.tolist(),
    "tuple": lambda value: tuple(value.tolist()),
    "pandas": lambda value: (pd.DataFrame if value.dim() == 2 else pd.Series)(value.numpy()),
}


FIELDS = [("x", form) for form in ("sparse", "coo", "scipy")]
for name in ("x", "edge_index", "edge_weight", "y", "train_mask"):
    FIELDS += [(name, form) for form in list(FORMS)[3:]]


@pytest.mark.parametrize(("key", "form"), FIELDS)
def test_fields_come_in_any_form(key, form):
    data = graph(edge_weight=torch.rand(N))
    made = GraphTask.from_data(data.clone().update({key: FORMS[form](data[key])}))
    wanted = GraphTask.from_data(data)
    for name in ("x", "edge_index", "edge_weight", "y"):
        assert made.data[name].equal(wanted.data[name]), name
    assert all(made.masks[split].equal(mask) for split, mask in wanted.masks.items())
    assert made.report().repaired[0].startswith(f"{key} was ")


def test_names_of_classes_may_be_an_array():
    y = np.array(["spam", "ham"] * 6)
    made = GraphTask.from_data(graph(y=y))
    assert made.data.class_names == ["ham", "spam"] and made.data.y[:2].tolist() == [1, 0]


def test_unsigned_labels_of_numpy_are_read():
    made = GraphTask.from_data(graph(y=(np.arange(N) % 2).astype(np.uint16)))
    assert made.data.y.equal(graph().y)


IDS = {
    "tensor": torch.tensor([3, 0, 1]),
    "int32": torch.tensor([3, 0, 1], dtype=torch.int32),
    "array": np.array([3, 0, 1]),
    "list": [3, 0, 1],
    "numbers of numpy": list(np.array([3, 0, 1])),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_node_ids_are_a_mask(ids):
    made = GraphTask.from_data(graph(train_mask=ids))
    assert made.index("train").tolist() == [0, 1, 3]
    assert made.report().repaired[-1] == "train_mask was 3 node ids, is a mask"
    splits = {"train": ids, "valid": [4, 5], "test": range(8, 12)}
    made = GraphTask.from_data(graph(val_mask=None), splits=splits)
    assert made.index("train").tolist() == [0, 1, 3] and made.index("val").tolist() == [4, 5]
    assert made.index("test").tolist() == [8, 9, 10, 11] and made.repaired == ()


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_splits_are_masks_or_ids_under_any_name(name):
    data = graph()
    made = GraphTask.from_data(data, splits={"train": data.train_mask, name: [4, 5]})
    assert made.splits == ("train", "val") and made.index("train").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("flags", [torch.int64, torch.uint8, torch.float32])
def test_a_mask_of_0_and_1_for_all_nodes_is_no_list_of_ids(flags):
    data = graph(train_mask=graph().train_mask.to(flags))
    assert GraphTask.from_data(data).index("train").tolist() == [0, 1, 2, 3]


def test_all_nodes_in_another_order_are_ids():
    with pytest.raises(ValueError, match="4 nodes are in both train and val"):
        GraphTask.from_data(graph(train_mask=torch.arange(N).flip(0)))


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([0, 1, 1, 0], "it has 4 values, and 0 is repeated"),  # a mask that is too short
        ([0, 1, N], "it has 3 values, and 12 is not one of 0 to 11"),
        ([-1, 2], "it has 2 values, and -1 is not one of 0 to 11"),
        ([2] * N, "it has 12 values, and 2 is repeated"),
    ],
    ids=str,
)
def test_neither_mask_nor_ids_is_said_with_the_reason(ids, problem):
    wanted = f"neither a mask of 0 and 1 for 12 nodes nor their ids: {problem}"
    with pytest.raises(ValueError, match=f"data.train_mask is {wanted}"):
        GraphTask.from_data(graph(train_mask=torch.tensor(ids)))
    with pytest.raises(ValueError, match=rf"splits\['train'\] is {wanted}"):
        GraphTask.from_data(graph(), splits={"train": ids, "val": [4]})


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        (
            {"train": [0], "dev": [1]},
            "must name train, val or valid, and test once, got train, dev",
        ),
        ({"val": [0], "valid": [1]}, "must name .* once, got val, valid"),
        (([0], [1], [2]), "splits must be a dict of node ids or masks, .* got tuple"),
        ({"train": [0, 2]}, "data.val_mask is missing; .* splits={'train': ids, 'val': ids}"),
        (
            {"train": {0: 1}, "val": [1]},
            r"splits\['train'\] must be a tensor, .*; the given dict cannot",
        ),
        ({"train": ["a"], "val": [1]}, r"'a'; give True or False per node, or node ids"),
        ({"train": [], "val": np.array([])}, "the train mask is empty"),
        (
            {"train": "first", "val": [1]},
            r"splits\['train'\] must be a tensor, .*; the given str cannot",
        ),
    ],
    ids=str,
)
def test_other_splits_are_refused(splits, problem):
    with pytest.raises(ValueError, match=problem):
        GraphTask.from_data(graph(), splits=splits)


class Graphs(InMemoryDataset):
    def __init__(self, *graphs: Data) -> None:
        super().__init__()
        self.data, self.slices = self.collate(list(graphs))


def test_a_dataset_of_one_graph_is_that_graph():
    made = GraphTask.from_data(Graphs(graph()))
    assert made.data.edge_index.equal(graph().edge_index) and made.repaired == ()
    with pytest.raises(ValueError, match=r"Graphs\(2\) holds 2 graphs; give one, .* dataset\[0\]"):
        GraphTask.from_data(Graphs(graph(), graph()))


def make_stub(package: str, name: str):
    return types.new_class(name, exec_body=lambda body: body.update(__module__=package))()


OTHERS = {
    "None": (None, "got NoneType; create one from x, edge_index, y and masks"),
    "name": ("cora", r"got str; mowst.load_task\(name\) loads a data set"),
    "list": ([graph()], "got list; give one of its graphs"),
    "dict": (graph().to_dict(), r"got dict; use Data.from_dict\(graph\)"),
    "ogb item": (({"edge_index": 0}, [1]), "got tuple; for OGB, use .*PygNodePropPredDataset"),
    "ogb": (
        make_stub("ogb.nodeproppred.dataset", "NodePropPredDataset"),
        "use ogb.nodeproppred.PygNodePropPredDataset",
    ),
    "dgl": (make_stub("dgl.heterograph", "DGLGraph"), r"torch_geometric.utils.from_dgl\(graph\)"),
    "networkx": (nx.DiGraph([(0, 1)]), r"got DiGraph; use torch_geometric.utils.from_networkx"),
    "hetero": (HeteroData(), r"got HeteroData; use data.to_homogeneous\(\)"),
}


@pytest.mark.parametrize(("given", "problem"), OTHERS.values(), ids=OTHERS)
def test_other_graphs_are_refused_with_the_call_that_helps(given, problem):
    with pytest.raises(ValueError, match=f"takes a torch_geometric.data.Data, .*{problem}"):
        GraphTask.from_data(given)


def test_the_call_for_hetero_data_helps():
    data = HeteroData()
    for key, value in graph().to_dict().items():
        data[("a", "to", "a") if key == "edge_index" else "a"][key] = value
    made = GraphTask.from_data(data.to_homogeneous())
    assert find_arrows(made.data) == find_arrows(graph())


WRONG = {
    "adjacency": (dict(edge_index=None, adj_t=[[0, 1]]), "data.adj_t must be sparse, got list"),
    "sparse edges": (
        dict(edge_index=torch.eye(N).to_sparse_coo()),
        "data.edge_index is sparse; set data.adj_t",
    ),
    "ragged": (dict(x=[[1.0], [1.0, 2.0]]), "data.x must be .* numbers; the given list cannot"),
    "words": (dict(x=np.array([["a"]] * N)), "data.x must be .* numbers; the given list cannot"),
    "set": (dict(edge_index={(0, 1)}), "data.edge_index must be .* numbers; the given set cannot"),
    "complex": (
        dict(x=torch.ones(N, 2, dtype=torch.complex64)),
        r"x must be real, got torch.complex64; torch.view_as_real\(x\).flatten\(1\)",
    ),
    "complex weights": (
        dict(edge_weight=torch.ones(N, dtype=torch.complex64)),
        "edge_weight must be real, got torch.complex64",
    ),
    "complex labels": (
        dict(y=torch.ones(N, dtype=torch.complex64)),
        "y must be int64 .*, got torch.complex64",
    ),
    "dates": (
        dict(x=np.zeros((N, 2), "datetime64[ns]")),
        "data.x must be .* numbers; the given ndarray cannot",
    ),
    "pairs": (
        dict(edge_index=[(0, 1), (1, 2), (3, 4)]),
        r"of shape \[2, edges\], got torch.int64 of \(3, 2\); edge_index.t\(\) has that shape",
    ),
    "no features": (dict(x=None, num_nodes=N), r"x is missing; .* torch.eye\(num_nodes\)"),
}


@pytest.mark.parametrize(("changes", "problem"), WRONG.values(), ids=WRONG)
def test_fields_without_meaning_are_named(changes, problem):
    with pytest.raises(ValueError, match=problem):
        GraphTask.from_data(graph(**changes))


@pytest.mark.parametrize("split", ["0", None, 0.0, [0]])
def test_the_split_is_a_number(split):
    with pytest.raises(ValueError, match="split must be an integer, the column of the masks, got"):
        GraphTask.from_data(graph(), split=split)


def test_a_flat_test_mask_belongs_to_every_split():
    data = graph()
    for key in ("train_mask", "val_mask"):
        data[key] = torch.stack([data[key], data[key].roll(1)], dim=1)
    data.val_mask[8] = False  # node 8 is a test node
    made = GraphTask.from_data(data, split=np.int64(1))
    assert type(made.split) is int
    assert made.index("train").tolist() == [1, 2, 3, 4]
    assert made.index("test").tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("make", [torch.nn.Parameter, lambda x: torch.nn.Linear(5, 4)(x)])
def test_learned_features_are_detached_and_train(make):
    task = GraphTask.from_data(graph(x=make(graph().x)))
    assert task.report().repaired == ("x required a gradient, is detached",)
    sizes = dict(in_channels=task.num_features, hidden_channels=4, num_layers=2, out_channels=2)
    model = Mowst(MLP(**sizes), GCN(**sizes), MonotoneGate())
    fit(model, task, config=TrainConfig(epochs=3, rounds=0, gate_folds=2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_features_that_single_precision_rounds_are_counted(dtype):
    times = 1_700_000_000 + torch.arange(N, dtype=dtype)
    made = GraphTask.from_data(graph(x=torch.stack([times, torch.arange(N)], dim=1)))
    assert made.report().repaired[1] == (
        f"11 values of x are rounded to float32, such as {times[1].item()}; "
        "subtract an offset to keep their differences"
    )
    small = torch.stack([2**24 - torch.arange(N), torch.arange(N)], dim=1).to(dtype)
    assert len(GraphTask.from_data(graph(x=small)).repaired) == 1


NOT_CONVERTED = {
    "data": (dict(data=[graph()]), "data must be a torch_geometric.data.Data, got list"),
    "x": (dict(data=graph(x=graph().x.numpy())), r"x must be a dense tensor, got ndarray; .*from_"),
    "sparse x": (dict(data=graph(x=torch.eye(N).to_sparse_coo())), "must be .*, got a sparse one"),
    "gradient": (dict(data=graph(x=torch.eye(N).requires_grad_())), r"gradient; x.detach\(\)"),
    "y": (dict(data=graph(y=[0, 1] * 6)), "y must be a dense tensor, got list; .*from_data"),
    "edges": (dict(data=graph(edge_index=[[0], [1]])), "edge_index must be .*, got list; .*from_"),
    "weights": (dict(data=graph(edge_weight=[1.0] * N)), "edge_weight must be .*, got list; "),
    "mask": (dict(masks={"train": [0], "val": graph().val_mask}), "train mask must be .* got list"),
}


@pytest.mark.parametrize(("changes", "problem"), NOT_CONVERTED.values(), ids=NOT_CONVERTED)
def test_a_task_made_directly_names_the_form_and_the_call_that_converts_it(changes, problem):
    masks = {key.removesuffix("_mask"): graph()[key] for key in MASKS}
    with pytest.raises(ValueError, match=problem):
        GraphTask(**{"data": graph(), "masks": masks, "num_classes": 2} | changes)


@pytest.mark.filterwarnings("ignore:Unable to accurately infer")
def test_node_ids_of_a_graph_without_nodes_are_not_the_problem():
    with pytest.raises(ValueError, match="x is missing"):
        GraphTask.from_data(Data(), splits={"train": [0], "val": [1]})
