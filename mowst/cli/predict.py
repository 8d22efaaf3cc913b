r""":obj:`mowst predict`."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch_geometric.data import Data

from mowst.cli.runs import (
    CLASSES,
    add_run,
    check_num_features,
    load_task,
    name_experts,
    open_run,
    order_features,
    read_names,
)
from mowst.data import load_graph
from mowst.io import atomic_write
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.task import SPLITS

if TYPE_CHECKING:
    import pandas as pd
    from jsonargparse import ArgumentParser, Namespace

FORMATS = (".csv", ".csv.gz", ".parquet")


def read_predict(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst predict`."""
    parser.description = (
        "Writes the predictions of the model of a run: node, label, the expert that predicted it, "
        "the confidence in the weak expert, and the probability of each class. The graph needs no "
        "labels."
    )
    add_run(parser)
    nodes = ("all", *SPLITS)
    parser.add_argument("--nodes", choices=nodes, default="all", help="All, or those of one split.")
    text = "Defer nodes with a lower confidence to the strong expert."
    parser.add_argument("--threshold", type=float | None, help=text)
    text = f"File to write ({', '.join(FORMATS)}) (default: CSV to the terminal)."
    parser.add_argument("--output", type=str | None, help=text)
    return parser.parse_args(argv)


def predict(options: "Namespace") -> None:
    r"""Writes the predictions of a run's model as a table."""
    if options.output is not None:
        _check_output(options.output)
    run_dir, model, device = open_run(options)
    name = options.data or run_dir.config["data"]
    data, nodes = _load_nodes(options, run_dir.config)
    data = order_features(data, run_dir, name)
    check_num_features(model, data, name)
    table = make_predictions(
        model,
        data.to(device),
        nodes,
        options.threshold,
        names=name_experts(run_dir.config),
        classes=read_names(run_dir, CLASSES),
    )
    if options.output is None:
        table.to_csv(sys.stdout, index=False)
        return
    write_table(table, options.output)
    print(f"{len(table)} nodes of '{name}': {options.output}")


def make_predictions(
    model: Mowst,
    data: Data,
    nodes: torch.Tensor,
    threshold: float | None,
    names: Mapping[str, str],
    classes: Sequence[str] | None = None,
) -> "pd.DataFrame":
    r"""Returns the predictions for some nodes of a graph, given the names of the experts, and of
    the classes if they have names. Nodes have their names in the graph, if they have names.
    """
    import pandas as pd

    from mowst.serve.predictor import Predictor

    if model.multilabel:
        raise ValueError("a table has one label per node: use model.predict_proba(data) in Python")
    found = Predictor(model, data, threshold=threshold).predict(nodes)
    if classes is None:
        classes = [str(number) for number in range(found.prob.size(1))]
        labels = found.labels.tolist()
    else:
        if len(classes) != found.prob.size(1):
            raise ValueError(
                f"the model has {found.prob.size(1)} classes, but {len(classes)} names of classes "
                f"({CLASSES}): {', '.join(classes)}"
            )
        labels = [classes[number] for number in found.labels.tolist()]
    table = pd.DataFrame({"node": nodes.tolist(), "label": labels})
    if "node_ids" in data:
        table["node"] = [data.node_ids[number] for number in nodes.tolist()]
    if model.route == "mixture" and threshold is None:
        table["expert"] = "mixture"
    else:
        table["expert"] = [names[EXPERTS[deferred]] for deferred in found.deferred.tolist()]
    table["confidence"] = found.confidence.cpu().numpy()
    columns = [f"prob_{name}" for name in classes]
    return table.join(pd.DataFrame(found.prob.cpu().numpy(), columns=columns))


def write_table(table: "pd.DataFrame", path: str) -> None:
    r"""Writes a table in the format that the name of the file ends in, atomically."""
    with atomic_write(path) as file:
        if path.endswith(".parquet"):
            table.to_parquet(file, engine="pyarrow", index=False)
        else:
            compression: Any = "gzip" if path.endswith(".gz") else None
            table.to_csv(file, index=False, compression=compression)


def _load_nodes(options: "Namespace", config: Mapping[str, Any]) -> tuple[Data, torch.Tensor]:
    # The graph, and the nodes to predict. Only a split needs labels.
    if options.nodes != "all":
        task = load_task(options, config)
        return task.data, task.index(options.nodes)
    name, root = options.data or config["data"], options.root or config.get("root")
    data = load_graph(name, root, config.get("transforms", ()))
    return data, torch.arange(data.x.size(0))


def _check_output(path: str) -> None:
    if not path.endswith(FORMATS):
        raise ValueError(f"the output '{path}' must end in {', '.join(FORMATS)}")
    if path.endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            hint = "'pip install pyarrow', or write it as .csv"
            raise ImportError(f"'{path}' needs pyarrow: {hint}") from None
