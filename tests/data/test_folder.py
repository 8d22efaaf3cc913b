import csv
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import (
    GCN,
    MLP,
    GraphTask,
    MonotoneGate,
    Mowst,
    TrainConfig,
    fit,
    load_task,
    seed_everything,
)
from mowst.data import load_graph
from mowst.data.folder import load_folder
from mowst.data.splits import stratified_split

FEATURES = [[0.5, 1], [1.5, 0], [2.5, 1], [3.5, 0], [4.5, 1], [5.5, 0]]
EDGES = [[0, 1], [1, 0], [1, 2], [4, 5]]
LABELS = [[0], [1], [0], [1], [0], [1]]
SPLITS = [["train"], ["train"], ["val"], ["val"], ["test"], ["test"]]
IDS = ["ann", "bob", "7", "dan", "eve", "fay"]
PLAIN = {"features": FEATURES, "edges": EDGES, "labels": LABELS, "splits": SPLITS}
NAMED = {
    "features": [
        ["id", "a", "b"],
        *([name, *row] for name, row in zip(IDS, FEATURES, strict=True)),
    ],
    "edges": [["source", "target"], *([IDS[u], IDS[v]] for u, v in EDGES)],
    "labels": [
        ["node", "y"],
        *([name, *row] for name, row in reversed(list(zip(IDS, LABELS, strict=True)))),
    ],
    "splits": [
        ["node_id", "first"],
        *([name, *row] for name, row in zip(IDS, SPLITS, strict=True)),
    ],
}


def write(folder, tables):
    folder.mkdir(exist_ok=True)
    for stem, rows in tables.items():
        with open(folder / f"{stem}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return folder


def expected() -> GraphTask:
    words = np.array(SPLITS)[:, 0]
    data = Data(
        x=torch.tensor(FEATURES),
        edge_index=torch.tensor(EDGES).t(),
        y=torch.tensor(LABELS).view(-1),
    )
    return GraphTask(
        data,
        {key: torch.from_numpy(words == key) for key in ("train", "val", "test")},
        num_classes=2,
    )


def same(one, other):
    return (
        all(torch.equal(one.data[key], other.data[key]) for key in ("x", "edge_index", "y"))
        and all(torch.equal(one.masks[key], other.masks[key]) for key in one.masks)
        and one.num_classes == other.num_classes
        and (one.data.edge_weight is None) == (other.data.edge_weight is None)
        and (
            one.data.edge_weight is None
            or torch.equal(one.data.edge_weight, other.data.edge_weight)
        )
    )


def mapped(path):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("tells no maps")
    return str(path) in maps.read_text()


def test_float32_features_are_mapped_and_train_as_those_in_memory(tmp_path, data):
    config = TrainConfig(epochs=2, rounds=1, batches="random", num_parts=2)
    folders, results = [tmp_path / name for name in ("file", "memory")], []
    words = np.full((data.num_nodes, 1), "", dtype=object)
    for key in ("train", "val", "test"):
        words[data[f"{key}_mask"].numpy(), 0] = key
    for folder, kind in zip(folders, (np.float32, np.float64), strict=True):
        write(folder, {"splits": [["split"], *words.tolist()]})
        np.save(folder / "features.npy", data.x.numpy().astype(kind))
        np.save(folder / "edges.npy", data.edge_index.t().numpy())
        np.save(folder / "labels.npy", data.y.numpy())
    tasks = [load_task(folder) for folder in folders]
    assert [mapped(folder / "features.npy") for folder in folders] == [True, False]
    assert same(*tasks)
    for task in tasks:
        seed_everything(0)
        sizes = {"in_channels": task.num_features, "hidden_channels": 4, "out_channels": 3}
        model = Mowst(MLP(**sizes), GCN(**sizes, num_layers=2), MonotoneGate())
        results.append(fit(model, task, config=config).history)
    strip = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in history]
        for history in results
    ]
    assert strip[0] == strip[1]


def test_what_is_written_to_mapped_features_stays_in_memory(tmp_path):
    folder = write(
        tmp_path / "mine", {key: rows for key, rows in PLAIN.items() if key != "features"}
    )
    np.save(folder / "features.npy", np.array(FEATURES, dtype=np.float32))
    load_task(folder).data.x.zero_()
    assert np.load(folder / "features.npy").tolist() == FEATURES


@pytest.mark.parametrize("tables", [PLAIN, NAMED], ids=["plain", "named"])
def test_a_folder_is_what_was_written(tmp_path, tables):
    task = load_task(write(tmp_path / "mine", tables))
    assert same(task, expected()) and task.name == "mine" and task.split == 0
    assert task.data.get("node_ids") == (IDS if tables is NAMED else None)
    assert same(task, load_task(str(tmp_path / "mine")))


def test_a_data_set_is_not_hidden_by_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path / "digits", PLAIN).parent)
    assert load_task("digits").num_nodes > 6 and load_task("./digits").num_nodes == 6
    assert load_task((tmp_path / "digits").rename(tmp_path / "mine").name).num_nodes == 6


def as_npy(folder, stem, value):
    np.save(folder / f"{stem}.npy", value)


def as_csr(folder, stem, value):
    sp.save_npz(folder / f"{stem}.npz", sp.csr_matrix(value))


def as_npz(folder, stem, value):
    np.savez(folder / f"{stem}.npz", anything=value)


@pytest.mark.parametrize(
    ("stem", "writer", "value"),
    [
        ("features", as_npy, np.array(FEATURES, dtype=">f8")),
        ("features", as_npz, np.array(FEATURES, dtype=np.float16)),
        ("features", as_csr, np.array(FEATURES)),
        ("edges", as_npy, np.array(EDGES, dtype=np.uint8)),
        ("edges", as_npy, np.array(EDGES, dtype=np.float32)),
        ("labels", as_npy, np.array(LABELS, dtype=np.float64)),
        ("labels", as_npy, np.array(LABELS, dtype=bool)[:, 0]),
        ("splits", as_npy, np.array(SPLITS)[:, 0]),
    ],
)
def test_arrays_hold_the_same(tmp_path, stem, writer, value):
    folder = write(tmp_path, {key: rows for key, rows in PLAIN.items() if key != stem})
    writer(folder, stem, value)
    assert same(load_folder(folder), expected())


@pytest.mark.parametrize("kind", ["masks", "columns", "lists"])
def test_splits_in_other_forms(tmp_path, kind):
    folder = write(tmp_path, {key: rows for key, rows in NAMED.items() if key != "splits"})
    for key, mask in expected().masks.items():
        if kind == "masks":
            np.save(folder / f"{key}_mask.npy", mask.numpy())
        elif kind == "columns":
            write(
                folder, {f"{key}_mask": [["a", "b"], *([0, str(flag)] for flag in mask.tolist())]}
            )
        else:
            write(folder, {key: [[IDS[node]] for node in mask.nonzero().view(-1)]})
    assert same(load_folder(folder, split=1 if kind == "columns" else 0), expected())
    with pytest.raises(ValueError, match="no split 2"):
        load_folder(folder, split=2)


@pytest.mark.parametrize("kind", ["words", "masks", "lists"])
def test_a_folder_may_have_no_test_nodes(tmp_path, kind):
    tables = {key: PLAIN[key] for key in ("features", "edges", "labels")}
    tables |= {
        "words": {"splits": [["train"], ["val"], [""]] * 2},
        "masks": {"train_mask": [[1], [0], [0]] * 2, "val_mask": [[0], [1], [0]] * 2},
        "lists": {"train": [[0], [3]], "val": [[1], [4]]},
    }[kind]
    task = load_folder(write(tmp_path, tables))
    assert task.splits == ("train", "val")
    assert task.index("train").tolist() == [0, 3] and task.index("val").tolist() == [1, 4]


def test_a_graph_without_labels_is_read_for_prediction(tmp_path):
    tables = {key: NAMED[key] for key in ("features", "edges")}
    data = load_graph(write(tmp_path, tables))
    assert data.x.equal(expected().data.x) and data.edge_index.equal(expected().data.edge_index)
    assert data.node_ids == IDS and data.feature_names == ["a", "b"] and data.y is None
    with pytest.raises(FileNotFoundError, match="lacks labels"):
        load_task(tmp_path)
    write(tmp_path, {"features": [["id", "a", "b"], ["ann", "inf", 0], ["bob", 1, 2]]})
    (tmp_path / "edges.csv").write_text("source,target\n")
    with pytest.raises(ValueError, match="x holds 1 NaN or infinite values"):
        load_graph(tmp_path)


def test_without_splits_a_stratified_draw_is_made(tmp_path):
    tables = {"features": FEATURES * 4, "edges": EDGES, "labels": LABELS * 4}
    task = load_folder(write(tmp_path, tables), split=3)
    drawn = stratified_split(task.data.y, seed=3)
    assert all(task.masks[key].equal(mask) for key, mask in drawn.items())
    assert load_folder(tmp_path, split="random-3").masks["train"].equal(drawn["train"])


def test_names_of_classes_missing_labels_and_weights(tmp_path):
    labels = [["cat"], ["dog"], ["cat"], ["dog"], ["cat"], [""]]
    edges = [["to", "from", "weight"], [1, 0, 2.5], [0, 1, 0.1]]
    splits = [["train"], ["train"], ["val"], ["val"], ["test"], [""]]
    task = load_folder(
        write(tmp_path, PLAIN | {"labels": labels, "edges": edges, "splits": splits})
    )
    assert task.data.y.tolist() == [0, 1, 0, 1, 0, -1] and task.data.class_names == ["cat", "dog"]
    assert task.data.edge_index.tolist() == [[0, 1], [1, 0]]
    assert task.data.edge_weight.equal(torch.tensor([2.5, 0.1]))


def test_edges_run_as_they_are_given_unless_asked(tmp_path):
    write(tmp_path, PLAIN | {"edges": [[0, 1, 1.0], [1, 0, 3.0], [1, 2, 5.0]]})
    assert load_folder(tmp_path).data.num_edges == 3
    task = load_folder(tmp_path, transforms=["undirected"])
    assert task.data.edge_index.t().tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert task.data.edge_weight.tolist() == [2, 2, 5, 5] and task.preprocessing == ("undirected",)


@pytest.mark.parametrize("name", ["undirected", "self-loops", "normalize-features"])
def test_as_many_edges_as_nodes_are_transformed_like_any(tmp_path, name):
    edges = [EDGES[k % 4] for k in range(len(IDS))]
    labels = [["cat"], ["dog"]] * 3
    named = NAMED | {
        "edges": [["source", "target"], *([IDS[u], IDS[v]] for u, v in edges)],
        "labels": labels,
    }
    task = load_folder(write(tmp_path / "named", named), transforms=[name])
    assert same(
        task, load_folder(write(tmp_path / "plain", PLAIN | {"edges": edges}), transforms=[name])
    )
    assert task.data.node_ids == IDS and task.data.class_names == ["cat", "dog"]


def test_repairs_are_logged(tmp_path, caplog):
    folder = write(tmp_path, PLAIN | {"extra": [[1]]})
    os.remove(folder / "features.csv")
    np.save(folder / "features.npy", np.array(FEATURES))
    task = load_folder(folder)
    assert task.repaired == ("x was float64, is float32",)
    assert "extra.csv is not read: its name is none of features, edges" in caplog.text
    assert "x was float64, is float32" in caplog.text


def changed(stem, row, cells, tables=PLAIN):
    rows = list(tables[stem])
    rows[row : row + 1] = [] if cells is None else [cells]
    return tables | {stem: rows}


PROBLEMS = {
    "text": (changed("features", 2, ["x", 1]), "features.csv, line 3: 'x' is not a number"),
    "half a header": (
        changed("features", 0, ["x", 1]),
        "features.csv, line 1: 'x' is not a number; a header has no numbers",
    ),
    "pandas header": (
        PLAIN | {"features": [[0, 1, 2], *([1, 0, 1] for _ in FEATURES)]},
        "features.csv, line 1: are 0, 1, 2, ... the names of columns or features",
    ),
    "no name": (
        PLAIN | {"features": [["a", "", "b"], *([*row, 1] for row in FEATURES)]},
        "features.csv, line 1: the column 2 has no name",
    ),
    "short row": (
        changed("features", 2, [1]),
        "features.csv, line 3: it has 1 cells, the first row has 2",
    ),
    "long row": (
        changed("edges", 2, [1, 2, 3]),
        "edges.csv, line 3: it has 3 cells, the first row has 2",
    ),
    "nan": (
        changed("features", 2, ["nan", 1]),
        "features.csv, line 3: the first of 1 values of the column '1' are missing",
    ),
    "too large": (
        changed("features", 2, ["1e39", 1]),
        "1 NaN or infinite values, the first at node 2, column 0",
    ),
    "no number": (
        changed("edges", 1, [1, "bob"]),
        "edges.csv, line 2: 'bob' is not a node .* rows of features.csv, 0 to 5",
    ),
    "out of range": (changed("edges", 1, [1, 6]), "edges.csv, line 2: '6' is not a node"),
    "half a node": (changed("edges", 1, [1, 1.5]), "edges.csv, line 2: '1.5' is not a node"),
    "stranger": (
        changed("edges", 1, ["ann", "zoe"], NAMED),
        "edges.csv, line 2: 'zoe' is not a node .*such as 'ann'",
    ),
    "edge columns": (
        PLAIN | {"edges": [["source", "target", "kind"], [0, 1, 2]]},
        "edges.csv must have the columns",
    ),
    "transposed": (
        PLAIN | {"edges": np.array(EDGES).T.tolist()},
        "edges.csv must have .* found 4 columns",
    ),
    "weight": (PLAIN | {"edges": [[0, 1, "a"]]}, "edges.csv, line 1: 'a' is not a number"),
    "twice": (
        changed("features", 2, ["ann", 1, 1], NAMED),
        "features.csv lists the node 'ann' twice",
    ),
    "no id": (
        changed("features", 2, ["", 1, 1], NAMED),
        "features.csv, line 3: the node has no id",
    ),
    "label twice": (
        changed("labels", 2, ["fay", 1], NAMED),
        "labels.csv, line 3: the node is listed twice",
    ),
    "few labels": (
        changed("labels", 2, None),
        "labels.csv has 5 rows for the 6 nodes of features.csv",
    ),
    "many labels": (changed("labels", 0, [0, 0])["labels"], ""),
    "mixed labels": (
        changed("labels", 2, ["cat"]),
        "labels.csv, line 3: the label 'cat'; give whole numbers, or names",
    ),
    "half a label": (changed("labels", 2, [1.5]), "labels.csv, line 3: the label '1.5'"),
    "large label": (changed("labels", 2, [10**9]), "1000000001 classes are more than 6 nodes"),
    "negative label": (changed("labels", 2, [-3]), "1 labels are outside 0 to 1.* node 2: -3"),
    "multilabel": (
        PLAIN | {"labels": [[0, 1]] * 6},
        "labels.csv has 2 columns of labels: several labels per node",
    ),
    "label lists": (
        changed("labels", 2, ["0;1"]),
        "labels.csv, line 3: the labels '0;1': several labels per node",
    ),
    "no labels": (PLAIN | {"labels": [[""]] * 6}, "labels.csv holds no label"),
    "split word": (
        changed("splits", 2, ["vall"]),
        "splits.csv, line 3: the split 'vall'; known: train, val, test",
    ),
    "empty split": (PLAIN | {"splits": [["train"], ["test"]] * 3}, "the val mask is empty"),
    "both": (
        PLAIN | {"train": [[0]]},
        "has splits.csv, train.csv: give splits, or train_mask, val_mask",
    ),
    "nothing": (PLAIN | {"features": []}, "features.csv is empty"),
    "header only": (
        PLAIN | {"features": [["a", "b"]]},
        "features.csv must hold a row for each node",
    ),
    "a header or an edge": (
        {
            "features": [["id", "a"], *([name, 1] for name in "uvwxyz")],
            "edges": [["u", "v"], ["w", "x"]],
            "labels": LABELS,
        },
        "edges.csv, line 1: are u, v nodes, or the names of columns. put a header before them",
    ),
}
del PROBLEMS["many labels"]


@pytest.mark.parametrize(("tables", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_problems_name_file_and_row(tmp_path, tables, problem):
    with pytest.raises(ValueError, match=problem):
        load_folder(write(tmp_path, tables))


def test_missing_and_doubled_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder '.*nowhere'"):
        load_task(tmp_path / "nowhere")
    write(tmp_path, {"labels": LABELS})
    with pytest.raises(
        FileNotFoundError,
        match="lacks features.npy|.csv|.parquet|.npz and edges.* it has labels.csv",
    ):
        load_folder(tmp_path)
    write(tmp_path, PLAIN)
    np.save(tmp_path / "labels.npy", np.array(LABELS))
    with pytest.raises(ValueError, match="has labels.csv and labels.npy: leave one"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("features.npy", b"junk", "features.npy is not a readable NumPy array"),
        ("features.npz", b"junk", "features.npz is not a readable NumPy archive"),
        ("features.csv", b"\xff\xfe1", "features.csv is not a UTF-8 table"),
        ("labels.csv", b'0\n"1', "labels.csv is not a UTF-8 table"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, problem):
    stem = file.split(".")[0]
    folder = write(tmp_path, {key: rows for key, rows in PLAIN.items() if key != stem})
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        load_folder(folder)


def test_arrays_that_are_no_table_are_refused(tmp_path):
    folder = write(tmp_path, {key: PLAIN[key] for key in ("edges", "labels", "splits")})
    for value in (
        np.array([["a"]], dtype=object),
        np.zeros((2, 2, 2)),
        np.zeros((6, 1), dtype=complex),
    ):
        np.save(folder / "features.npy", value)
        with pytest.raises(ValueError, match="features.npy"):
            load_folder(folder)
    os.remove(folder / "features.npy")
    sp.save_npz(folder / "features.npz", sp.csc_matrix(np.eye(6)))
    with pytest.raises(
        ValueError,
        match=r"features.npz holds a sparse matrix of the format csc; save its .tocsr\(\)",
    ):
        load_folder(folder)


SPELLINGS = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"]
SPELLINGS += ["1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
SPELLINGS += ["NaT", r"\N"]


def test_a_missing_value_is_missing_in_every_spelling_of_pandas(tmp_path):
    labels = [["id", "label"], *([name, "cat" if k % 2 else "dog"] for k, name in enumerate(IDS))]
    named = NAMED | {"splits": NAMED["splits"][:-1]}
    for k, spelling in enumerate(SPELLINGS):
        rows = [*labels[:-1], ["fay", spelling]]
        task = load_folder(write(tmp_path / f"label {k}", named | {"labels": rows}))
        assert task.data.y.tolist() == [1, 0, 1, 0, 1, -1], spelling
        assert task.data.class_names == ["cat", "dog"]
        found = f"labels.csv: 1 ({spelling!r} 1) of 6 labels are missing"
        assert found in task.repaired
        rows = [*NAMED["features"][:-1], ["fay", 1.5, spelling]]
        folder = write(tmp_path / f"feature {k}", named | {"features": rows})
        with pytest.raises(ValueError, match="line 7: the first of 1 values of the column 'b'"):
            load_folder(folder)


@pytest.mark.parametrize("cell", ["2020-01-31", "1+2j", "0x1F", "1 000", "12:30"])
def test_a_feature_that_is_no_real_number_is_named(tmp_path, cell):
    rows = [*NAMED["features"][:-1], ["fay", 1.5, cell]]
    with pytest.raises(ValueError, match=rf"csv, line 7: '{re.escape(cell)}' is not a number"):
        load_folder(write(tmp_path, NAMED | {"features": rows}))


def test_empty_rows_are_left_out_at_the_end_only(tmp_path):
    folder = write(tmp_path, PLAIN)
    path = folder / "features.csv"
    text = path.read_text()
    width = text.splitlines()[0].count(",")
    path.write_text(text + f"{',' * width}\n" * 2)
    task = load_folder(folder)
    assert same(task, load_folder(write(tmp_path / "plain", PLAIN)))
    assert "features.csv: 2 rows at the end are empty, and left out" in task.repaired
    lines = text.splitlines()
    path.write_text("\n".join([lines[0], "," * width, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="features.csv, line 2: the first of 1 values"):
        load_folder(folder)


def test_parquet_is_read_and_missed_in_one_sentence(tmp_path, monkeypatch):
    for stem, rows in NAMED.items():
        table = pd.DataFrame(rows[1:], columns=rows[0])
        table.to_parquet(tmp_path / f"{stem}.parquet", index=False)
    assert same(load_folder(tmp_path), expected())

    def missing(path):
        raise ImportError("no engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(
        ValueError, match="features.parquet needs pyarrow: 'pip install pyarrow', or write it as"
    ):
        load_folder(tmp_path)


@pytest.mark.slow
def test_cora_as_csv_is_cora(tmp_path):
    root = os.environ.get("MOWST_DATA")
    if root is None:
        pytest.skip("MOWST_DATA is not set: no real graphs here")
    task = load_task("cora", root=root)
    words = np.full(task.num_nodes, "", dtype=object)
    for key, mask in task.masks.items():
        words[mask.numpy()] = key
    frames = {
        "features": pd.DataFrame(task.data.x.numpy()).add_prefix("word"),
        "edges": pd.DataFrame(task.data.edge_index.t().numpy(), columns=["source", "target"]),
        "labels": pd.DataFrame({"label": task.data.y.numpy()}),
        "splits": pd.DataFrame({"split": words}),
    }
    for stem, frame in frames.items():
        frame.to_csv(tmp_path / f"{stem}.csv", index=False)
    assert same(load_folder(tmp_path), task)


@given(
    stem=st.sampled_from(sorted(PLAIN)),
    content=st.binary(max_size=40) | st.text(max_size=40).map(str.encode),
)
@settings(max_examples=30, deadline=None)
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory, stem, content):
    folder = write(tmp_path_factory.mktemp("graph"), PLAIN)
    (folder / f"{stem}.csv").write_bytes(content)
    try:
        assert load_folder(folder).num_nodes == 6
    except ValueError as error:
        assert str(folder) in str(error)
