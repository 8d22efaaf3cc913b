r"""One graph, written as pandas, R, databases and spreadsheets write it: the reader returns it, or
an error that names file and line.
"""

import csv
import gzip
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mowst.data.folder import load_folder

LONG = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
FAST = settings(LONG, max_examples=25, derandomize=True)
STEMS = ("features", "edges", "labels", "splits")
PLACE = re.compile(
    rf"({'|'.join(STEMS)})\.\S*?(, (line|row) \d+:| has \d+ rows for | must have | is empty)"
)


@dataclass
class Graph:
    r"""A graph as its author knows it. Ids are text, or :obj:`None` for numbered rows."""

    x: pd.DataFrame
    edges: list[tuple[int, int]]
    weights: list[float] | None
    labels: list[str | None]
    words: list[str]
    ids: list[str] | None

    def frames(self, first: int = 0) -> dict[str, pd.DataFrame]:
        r"""The tables, whose nodes are numbered from :obj:`first` if they have no ids."""
        names = [str(row + first) for row in range(len(self.x))] if self.ids is None else self.ids
        edges = pd.DataFrame(
            [(names[u], names[v]) for u, v in self.edges], columns=["source", "target"], dtype=str
        )
        if self.weights is not None:
            edges["weight"] = self.weights
        tables = {
            "features": self.x.copy(),
            "labels": pd.DataFrame({"label": self.labels}, dtype=object),
            "splits": pd.DataFrame({"split": self.words}, dtype=object),
        }
        if self.ids is not None:
            for frame in tables.values():
                frame.insert(0, "id", names)
        return tables | {"edges": edges}

    def equals(self, task) -> bool:
        classes = sorted({label for label in self.labels if label is not None})
        if all(label.isdecimal() for label in classes):
            y = [-1 if label is None else int(label) for label in self.labels]
        else:
            y = [-1 if label is None else classes.index(label) for label in self.labels]
            assert task.data.class_names == classes
        x = torch.tensor(self.x.to_numpy(np.float64)).float()
        edges = torch.tensor(self.edges).view(-1, 2).t()
        assert task.data.x.shape == x.shape and task.data.x.equal(x)
        assert task.data.edge_index.equal(edges) and task.data.y.tolist() == y
        assert (task.data.edge_weight is None) == (self.weights is None)
        if self.weights is not None:
            assert task.data.edge_weight.equal(torch.tensor(self.weights))
        for key in ("train", "val", "test"):
            assert task.masks[key].tolist() == [word == key for word in self.words]
        return True


@st.composite
def graphs(draw, ids=None):
    count = draw(st.integers(6, 9))
    nodes = st.integers(0, count - 1)
    columns = {}
    for name in draw(st.permutations(["age", "income", "x 1", "é"]))[: draw(st.integers(1, 4))]:
        kind = draw(st.sampled_from(["float", "small", "int", "bool"]))
        values = {
            "float": st.floats(-1e6, 1e6, width=32),
            "small": st.integers(0, 3),
            "int": st.integers(-(2**40), 2**40),
            "bool": st.booleans(),
        }[kind]
        columns[name] = draw(st.lists(values, min_size=count, max_size=count))
    edges = draw(st.lists(st.tuples(nodes, nodes), min_size=3, max_size=12))
    weight = st.sampled_from([0.5, 1.0, 2.0, 3.0, 0.25, 1e-7])
    weights = draw(st.none() | st.lists(weight, min_size=len(edges), max_size=len(edges)))
    pairs = [("0", "1"), ("cat", "dog"), ("y", "n"), ("True", "False"), ("é", "b c")]
    names = draw(st.sampled_from(pairs))
    labels = [names[k % 2] for k in range(count)]
    words = ["train", "train", "val", "val", "test", "test"] + [""] * (count - 6)
    for node in range(6, count):
        labels[node] = draw(st.sampled_from([*names, None]))
    kinds = ("none", "text", "numbers", "padded", "large")
    kind = draw(st.sampled_from(ids or kinds))
    order = draw(st.permutations(range(count)))
    named = {
        "none": None,
        "text": [f"né {k}" if k % 2 else f"NA{k}" for k in order],
        "numbers": [str(10 * k + 1) for k in order],
        "padded": [f"{k:03d}" for k in order],
        "large": [str(2**60 + k) for k in order],
    }[kind]
    return Graph(pd.DataFrame(columns), edges, weights, labels, words, named)


@dataclass
class Form:
    r"""How a program writes a table."""

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    newline: str = "\n"
    index: str = ""  # "pandas", "R"
    header: str = "names"  # "names", "numbers", "none"
    missing: str = ""
    quoting: int = csv.QUOTE_MINIMAL
    blank: int = 0
    trailing: bool = False
    first: str = ""
    suffix: str = ".csv"

    def write(self, folder, stem: str, frame: pd.DataFrame) -> None:
        frame = frame.copy()
        if self.header == "numbers":
            frame.columns = range(frame.shape[1])
        if self.index == "R":
            frame.index = frame.index + 1
        if self.suffix == ".parquet":
            frame.to_parquet(folder / f"{stem}.parquet", index=bool(self.index) or None)
            return
        options = {"index_label": False} if self.index == "short" else {}
        text = frame.to_csv(
            sep=self.separator,
            decimal=self.decimal,
            index=bool(self.index),
            header=self.header != "none",
            na_rep=self.missing,
            quoting=self.quoting,
            lineterminator="\n",
            **options,
        )
        lines = text.splitlines()
        if self.trailing:
            lines = [line + self.separator for line in lines]
        if self.first:
            lines.insert(0, self.first)
        content = self.newline.join([*lines, *[""] * (self.blank + 1)]).encode(self.encoding)
        if self.suffix.endswith(".gz"):
            content = gzip.compress(content)
        (folder / f"{stem}{self.suffix}").write_bytes(content)


NAMED = [
    Form(),
    Form(index="pandas"),
    Form(newline="\r\n", blank=2),
    Form(suffix=".csv.gz"),
    Form(separator="\t", suffix=".tsv", missing=r"\N"),
    Form(quoting=csv.QUOTE_NONNUMERIC, index="R", missing="NA"),
    Form(separator=";", decimal=",", encoding="utf-8-sig", newline="\r\n"),
    Form(separator=";", decimal=",", first="sep=;", newline="\r\n"),
    Form(separator="\t", encoding="utf-16", newline="\r\n"),
    Form(separator="|", missing="null", blank=1),
    Form(trailing=True),
    Form(suffix=".parquet"),
    Form(suffix=".parquet", index="pandas"),
]
UNNAMED = [
    Form(header="numbers"),
    Form(header="numbers", index="pandas"),
    Form(header="none"),
    Form(header="none", index="pandas"),
    Form(header="none", separator=";", decimal=",", newline="\r\n", blank=3),
    Form(header="none", separator="\t", suffix=".txt"),
]


def needs_pyarrow(form):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return form.suffix == ".parquet"
    return False


def write(folder, graph, forms, shuffle=None):
    r"""Writes each table in its form, with columns and, where nodes have ids, rows in any order."""
    is_r = all(form.index == "R" for form in forms.values())
    for stem, frame in graph.frames(first=1 if is_r else 0).items():
        form = forms[stem]
        if shuffle is not None and form.header == "names":
            names = shuffle.permutation(frame.columns) if stem != "features" else frame.columns
            frame = frame[list(names)]
            if stem in ("labels", "splits") and graph.ids is not None:
                frame = frame.iloc[shuffle.permutation(len(frame))].reset_index(drop=True)
        form.write(folder, stem, frame)
    return folder


def forms(kinds):
    kinds = st.sampled_from([form for form in kinds if not needs_pyarrow(form)])
    each = st.fixed_dictionaries(dict.fromkeys(STEMS, kinds))
    return each | kinds.map(lambda form: dict.fromkeys(STEMS, form))


def check_named(graph, chosen, seed, folder):
    is_r = [form.index == "R" for form in chosen.values()]
    if any(is_r) and not all(is_r) and graph.ids is None:
        return  # rows that are numbered from 1 in one file and from 0 in another
    form = chosen["features"]
    if form.decimal == "," and graph.x.shape[1] == 1:
        chosen = chosen | {"features": NAMED[0]}  # 0,5 is one column or two
    shuffle = np.random.default_rng(seed)
    assert graph.equals(load_folder(write(folder, graph, chosen, shuffle)))


def check_unnamed(graph, chosen, folder):
    form = chosen["features"]
    if form.decimal == "," and form.header == "none" and graph.x.shape[1] == 1:
        return  # 0,5 is one column or two
    try:
        task = load_folder(write(folder, graph, chosen))
    except ValueError as error:
        assert PLACE.search(str(error)), str(error)
    else:
        # 0,1 may be an edge or numbers of columns. The task reports how it is read.
        if not any("is read as an edge" in line for line in task.repaired):
            assert graph.equals(task)


@given(graph=graphs(), chosen=forms(NAMED), seed=st.integers(0, 99))
@FAST
def test_tables_with_names_are_read_as_they_are_meant(graph, chosen, seed, tmp_path_factory):
    check_named(graph, chosen, seed, tmp_path_factory.mktemp("graph"))


@given(graph=graphs(ids=("none",)), chosen=forms(NAMED[:3] + UNNAMED))
@FAST
def test_tables_without_names_are_read_or_refused(graph, chosen, tmp_path_factory):
    check_unnamed(graph, chosen, tmp_path_factory.mktemp("graph"))


@pytest.mark.slow  # about 1.5 minutes
@pytest.mark.parametrize("has_names", [True, False])
def test_both_for_longer(has_names, tmp_path_factory):
    @given(graph=graphs(ids=None if has_names else ("none",)), data=st.data())
    @LONG
    def check(graph, data):
        folder = tmp_path_factory.mktemp("graph")
        if has_names:
            check_named(graph, data.draw(forms(NAMED)), data.draw(st.integers(0, 99)), folder)
        else:
            check_unnamed(graph, data.draw(forms(NAMED[:3] + UNNAMED)), folder)

    check()
