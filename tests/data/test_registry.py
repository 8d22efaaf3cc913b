import os
from pathlib import Path

import pytest
import torch

from mowst import load_task
from mowst.data import (
    DATASETS,
    DatasetInfo,
    csbm,
    data_root,
    find_dataset,
    register_dataset,
    stratified_split,
)
from mowst.metrics import METRICS

GENERATED = [name for name, info in DATASETS.items() if not info.files]


def test_rows_are_consistent():
    assert len(DATASETS) == 34
    for name, info in DATASETS.items():
        assert info.name == name == name.lower() and "_" not in name
        assert info.metric in METRICS and info.protocol
        assert bool(info.files) == bool(info.folder) and (not info.files or info.home)


@pytest.mark.parametrize("name", ["roman-empire", "Roman_Empire", "ROMAN-EMPIRE", "roman_empire"])
def test_names_are_forgiving(name):
    assert find_dataset(name).name == "roman-empire"


def test_unknown_names_list_the_known():
    with pytest.raises(
        ValueError, match="'corra' is unknown; did you mean 'cora'. known: cora, citeseer, "
    ):
        load_task("corra")


@pytest.mark.parametrize(
    "name",
    ["fb100-../../x1", "fb100-a/b1", "fb100-reed98/..", "cora\0", "..\\cora", "cora/../cora"],
)
def test_a_name_leads_nowhere_else(name, tmp_path, monkeypatch):
    # What has a separator is a folder of one's own, and never a place under the root.
    monkeypatch.chdir(tmp_path)
    (root := tmp_path / "root").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="is unknown|there is no folder"):
        load_task(name, root=root)
    with pytest.raises(ValueError, match="is unknown"):
        find_dataset(name)
    assert [path.name for path in tmp_path.iterdir()] == ["root"] and not list(root.iterdir())


def test_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MOWST_DATA", raising=False)
    assert data_root() == Path.home() / ".cache" / "mowst"
    monkeypatch.setenv("MOWST_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("~/graphs") == Path.home() / "graphs"


@pytest.mark.parametrize(
    "name", ["fb100-rutgers89", *(name for name in DATASETS if name not in GENERATED)]
)
def test_missing_files_say_what_belongs_where(name, tmp_path):
    info = find_dataset(name)
    with pytest.raises(FileNotFoundError) as error:
        load_task(name, root=tmp_path)
    addresses = [info.urls[file] for file in info.files if file in info.urls]
    for part in (
        *info.files,
        *addresses,
        str(tmp_path),
        info.home,
        "MOWST_DATA",
        "MOWST_OFFLINE is set",
    ):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_every_college_has_a_name():
    assert find_dataset("fb100-Penn94") is DATASETS["penn94"]
    assert find_dataset("fb100_Rutgers89").files == ("raw/data.mat",)
    with pytest.raises(ValueError, match="'fb100-' is unknown"):
        find_dataset("fb100-")


def register(monkeypatch, **fields):
    monkeypatch.setattr("mowst.data.registry.DATASETS", dict(DATASETS))
    info = DatasetInfo(**{"name": "my-graph", "family": "mine", "read": lambda: csbm(400)} | fields)
    register_dataset(info)
    return info


def test_a_registered_data_set_loads_by_its_name(monkeypatch, tmp_path):
    info = register(monkeypatch, sizes=(400, None, 16, 4))
    task = load_task("My_Graph", root=tmp_path, split=3)
    assert find_dataset("my-graph") is info
    assert task.name == "my-graph" and task.num_nodes == info.statistics["nodes"]
    assert task.index("train").equal(
        stratified_split(task.data.y, seed=3)["train"].nonzero().view(-1)
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "My Graph"}, "must be lower-case letters, digits and hyphens, got 'My Graph'"),
        ({"name": "cora"}, "the data set 'cora' is already registered"),
        (
            {"metric": "auc"},
            "the metric 'auc' of 'my-graph' is unknown; known: accuracy, roc_auc, f1",
        ),
    ],
)
def test_only_new_names_and_known_metrics_are_registered(monkeypatch, fields, problem):
    with pytest.raises(ValueError, match=problem):
        register(monkeypatch, **fields)


def check_statistics(name: str, root: str | None) -> None:
    info, task = find_dataset(name), load_task(name, root=root)
    found = (task.num_nodes, task.data.num_edges, task.num_features, task.num_classes)
    assert all(
        known in (None, value) for known, value in zip(info.statistics.values(), found, strict=True)
    )
    assert (
        task.data.is_coalesced()
        and task.metric == info.metric
        and task.preprocessing == info.preprocessing
    )


@pytest.mark.parametrize("name", GENERATED)
def test_generated_graphs_need_no_file(name, tmp_path):
    check_statistics(name, root=str(tmp_path))


def mark_large(name):
    edges = DATASETS[name].statistics["edges"] or 0
    return pytest.param(name, marks=pytest.mark.slow) if edges > 10**6 else name


@pytest.mark.parametrize("name", [mark_large(name) for name in DATASETS if name not in GENERATED])
def test_published_statistics(name, tmp_path, monkeypatch):
    root = os.environ.get("MOWST_DATA")
    if root is None:
        pytest.skip("MOWST_DATA is not set: no real graphs here")
    info = find_dataset(name)
    if not all(path.is_file() for path in info.paths(Path(root)) + info.split_paths(Path(root), 0)):
        pytest.skip(f"the files of '{name}' are not in MOWST_DATA")
    monkeypatch.setenv("MOWST_CACHE", str(tmp_path))
    check_statistics(name, root)


def test_published_split_sizes():
    root = os.environ.get("MOWST_DATA")
    if root is None:
        pytest.skip("MOWST_DATA is not set: no real graphs here")
    sizes = {
        "cora": [140, 500, 1000],
        "citeseer": [120, 500, 1000],
        "computers": [8251, 2750, 2751],
    }
    for name, expected in sizes.items():
        assert [int(mask.sum()) for mask in load_task(name, root=root).masks.values()] == expected


def test_split_is_named_in_the_task():
    task = load_task("digits", split="random-7")
    assert str(task).endswith("split=random-7)")
    assert task.index("train").equal(load_task("digits", split=7).index("train"))
    assert torch.stack(list(task.masks.values())).sum(dim=0).eq(1).all()
