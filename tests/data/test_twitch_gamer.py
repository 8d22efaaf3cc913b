import numpy as np
import pandas as pd
import pytest
import torch

from mowst import load_task

NODES = 16
TABLE = {
    "views": np.arange(NODES) ** 2,
    "mature": np.arange(NODES) // 2 % 2,
    "life_time": 100 + np.arange(NODES),
    "created_at": [f"2016-02-{day:02d}" for day in range(1, NODES + 1)],
    "updated_at": [f"20{10 + k % 3}-10-12" for k in range(NODES)],
    "numeric_id": np.arange(NODES),
    "dead_account": [0] * NODES,
    "language": ["EN", "NA", "DE", "EN"] * 4,
    "affiliate": [1, 0] * 8,
}
EDGES = {"numeric_id_1": np.arange(NODES - 1), "numeric_id_2": np.arange(1, NODES)}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "linkx" / "twitch-gamer" / "raw"
    folder.mkdir(parents=True)
    pd.DataFrame(TABLE).to_csv(folder / "twitch-gamer_feat.csv", index=False)
    pd.DataFrame(EDGES).to_csv(folder / "twitch-gamer_edges.csv", index=False)
    return folder


@pytest.fixture
def load(raw, tmp_path):
    return lambda: load_task("twitch-gamer", root=tmp_path, split="random-0")


def test_features_are_standardised_numbers_and_the_label_is_mature(load):
    task = load()
    numbers = [
        TABLE["views"],
        TABLE["life_time"],
        [20160200 + k for k in range(1, NODES + 1)],
        [20001012 + 10000 * (10 + k % 3) for k in range(NODES)],
        [0, 1, 2, 0] * 4,
        TABLE["affiliate"],
    ]
    columns = torch.tensor(np.array(numbers), dtype=torch.float64).t()
    expected = ((columns - columns.mean(dim=0)) / columns.std(dim=0)).float()
    torch.testing.assert_close(task.data.x[:, [0, 1, 2, 3, 5, 6]], expected)
    assert task.data.x[:, 4].eq(0).all(), "a constant feature is 0, not NaN"
    assert task.data.y.tolist() == TABLE["mature"].tolist()
    assert task.data.num_edges == 30 and task.data.is_undirected()


def test_the_second_load_is_the_same_from_the_cache(load, monkeypatch):
    first = load()
    monkeypatch.setattr(
        "mowst.data.linkx.load_csv", lambda *args, **kwargs: pytest.fail("read again")
    )
    assert all(value.equal(load().data[key]) for key, value in first.data.to_dict().items())


def test_fixed_splits_come_from_either_file(raw, tmp_path):
    parts = {"train": np.arange(8), "valid": np.arange(8, 12), "test": np.arange(12, 16)}
    splits = [{key: (nodes + k) % NODES for key, nodes in parts.items()} for k in range(5)]
    (tmp_path / "splits").mkdir()
    with pytest.raises(FileNotFoundError, match="splits/twitch-gamer-splits.npy"):
        load_task("twitch-gamer", root=tmp_path)
    np.save(tmp_path / "splits" / "twitch-gamer-splits.npy", np.array(splits, dtype=object))
    published = [load_task("twitch-gamer", root=tmp_path, split=k) for k in range(5)]
    plain = {f"{key}_{k}": nodes for k, split in enumerate(splits) for key, nodes in split.items()}
    np.savez(tmp_path / "splits" / "twitch-gamer-splits.npz", **plain)
    for k, task in enumerate(published):
        assert task.index("train").tolist() == sorted(splits[k]["train"])
        other = load_task("twitch-gamer", root=tmp_path, split=k)
        assert all(mask.equal(other.masks[key]) for key, mask in task.masks.items())


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("feat", "numeric_id,views\n0,1\n", "twitch-gamer_feat.csv lacks mature, life_time"),
        ("edges", "a,b\n0,16\n", "twitch-gamer_edges.csv must hold pairs of node ids from 0 to 15"),
        ("edges", "a,b\n0,x\n", "must hold whole numbers, dates, languages"),
        ("edges", "a,b\n0,1\n2,\n", "must hold whole numbers, dates, languages"),
        ("edges", "a,b\n0,1\n2", "must hold whole numbers, dates, languages"),
        ("edges", "", "twitch-gamer_edges.csv is not a readable table"),
    ],
)
def test_damaged_tables_are_named_and_leave_no_cache(raw, load, file, text, problem):
    (raw / f"twitch-gamer_{file}.csv").write_text(text)
    with pytest.raises(ValueError, match=problem):
        load()
    assert not (raw.parent / "cache").exists()


@pytest.mark.parametrize("column", ["numeric_id", "created_at"])
def test_rows_out_of_order_and_damaged_dates_are_refused(raw, load, column):
    table = pd.DataFrame(TABLE)
    table[column] = (
        table[column].astype(str).iloc[::-1].to_numpy() if column == "numeric_id" else "yesterday"
    )
    table.to_csv(raw / "twitch-gamer_feat.csv", index=False)
    with pytest.raises(
        ValueError, match="the numeric_id of row k must be k|must hold whole numbers, dates"
    ):
        load()
