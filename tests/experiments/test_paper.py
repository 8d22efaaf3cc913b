import gzip
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from mowst.nn.build import build_model
from mowst.presets import load_paper_tables, load_preset
from mowst.study import expand, run_one

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import paper

TABLES = load_paper_tables()
ROWS = {row["name"]: row for table in TABLES.values() for row in table}
NODES = np.arange(60)
EDGES = np.stack([np.r_[NODES, NODES], np.r_[(NODES + 1) % 60, (NODES + 7) % 60]])
FEATURES = np.random.default_rng(0).normal(size=(60, 5)).round(3)
PARTS = {"train": NODES[:30], "valid": NODES[30:45], "test": NODES[45:]}
QUICK = {"epochs": 2, "rounds": 1, "seeds": 1}


def save_csv(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    pd.DataFrame(values).to_csv(text, header=False, index=False)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    r"""Writes sixty nodes in the format of each publisher."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("graphsaint/Flickr", "linkx/penn94", "linkx/pokec", "linkx/twitch-gamer"):
        (root / folder / "raw").mkdir(parents=True)
    raw = root / "graphsaint" / "Flickr" / "raw"
    ring = sp.csr_matrix((np.ones(120), EDGES), shape=(60, 60))
    sp.save_npz(raw / "adj_full.npz", (ring + ring.T).tocsr())
    np.save(raw / "feats.npy", FEATURES)
    (raw / "class_map.json").write_text(json.dumps({str(k): int(k) % 3 for k in NODES}))
    roles = dict(zip(("tr", "va", "te"), PARTS.values(), strict=True))
    (raw / "role.json").write_text(
        json.dumps({role: nodes.tolist() for role, nodes in roles.items()})
    )
    for name, split in (("ogbn_arxiv", "time"), ("ogbn_products", "sales_ranking")):
        tables = {
            "num-node-list": [60],
            "num-edge-list": [120],
            "node-feat": FEATURES,
            "edge": EDGES.T,
        }
        for table, values in (tables | {"node-label": NODES % 4}).items():
            save_csv(root / "ogb" / name / "raw" / f"{table}.csv.gz", values)
        for part, nodes in PARTS.items():
            save_csv(root / "ogb" / name / "split" / split / f"{part}.csv.gz", nodes)
    info = np.stack([NODES % 2 + 1, NODES // 2 % 2 + 1, *[NODES % 5] * 5], axis=1).astype(np.uint16)
    scipy.io.savemat(
        root / "linkx" / "penn94" / "raw" / "data.mat", {"A": ring + ring.T, "local_info": info}
    )
    variables = {
        "edge_index": EDGES.astype(np.int32),
        "node_feat": FEATURES,
        "label": NODES[None] % 2,
        "num_nodes": 60,
    }
    scipy.io.savemat(root / "linkx" / "pokec" / "raw" / "pokec.mat", variables)
    users = {
        "views": NODES**2,
        "mature": NODES // 2 % 2,
        "life_time": NODES,
        "created_at": "2016-02-01",
    }
    users |= {
        "updated_at": "2018-10-12",
        "numeric_id": NODES,
        "dead_account": 0,
        "language": "EN",
        "affiliate": NODES % 2,
    }
    folder = root / "linkx" / "twitch-gamer" / "raw"
    pd.DataFrame(users).to_csv(folder / "twitch-gamer_feat.csv", index=False)
    pd.DataFrame(EDGES.T, columns=["numeric_id_1", "numeric_id_2"]).to_csv(
        folder / "twitch-gamer_edges.csv", index=False
    )
    (root / "splits").mkdir()
    for name in ("penn94", "pokec", "twitch-gamer"):
        splits = {f"{part}_{k}": nodes for k in range(5) for part, nodes in PARTS.items()}
        np.savez(root / "splits" / f"{name}-splits.npz", **splits)
    return root


def test_there_are_19_mixtures_and_no_name_twice():
    assert {name: len(rows) for name, rows in TABLES.items()} == {"mowst": 19, "baselines": 38}
    assert len(ROWS) == 19 + 38
    assert {row["method"] for row in TABLES["mowst"]} == {"mowst", "mowst-star"}
    assert {row["method"] for row in TABLES["baselines"]} == {"weak", "strong"}


def test_no_published_score_is_certified():
    published = [row["published"] for row in ROWS.values() if "published" in row]
    assert len(published) == 13 + 30
    for score in published:
        assert (
            score["certified"] is False
            and score["source"]
            and 50 < score["mean"] < 90
            and score["std"] >= 0
        )


@pytest.mark.parametrize("name", ROWS)
def test_every_row_expands_to_runs_and_builds(name):
    runs = expand([ROWS[name]])
    one_split = runs[0].data in ("flickr", "ogbn-arxiv", "ogbn-products")
    assert [run.split for run in runs] == ([0] * 10 if one_split else [0, 1, 2, 3, 4])
    model = build_model(runs[0].model_config, in_channels=5, out_channels=3, num_nodes=60)
    sizes = ROWS[name]["hidden_channels"], ROWS[name]["num_layers"]
    assert (model.weak.hidden_channels, model.weak.num_layers) == sizes


@pytest.mark.parametrize("row", TABLES["mowst"], ids=lambda row: row["name"])
def test_the_preset_of_data_and_strong_expert_is_the_row(row):
    found = load_preset(row["data"], "paper", row["strong"])
    assert found.items() <= row.items()
    assert row.keys() - found.keys() <= {"name", "data", "seeds", "published"}


def test_the_preset_of_an_expert_without_a_mixture_is_the_expert_alone():
    assert load_preset("penn94", "paper", "h2gcn")["method"] == "strong"
    with pytest.raises(ValueError, match="no row for penn94 with mlp, only for flickr with gcn, "):
        load_preset("penn94", "paper", "mlp")


@pytest.mark.parametrize(
    "name",
    [
        "Mowst-GCN flickr",
        "Mowst-SAGE ogbn-arxiv",
        "Mowst*-GCN ogbn-products",
        "Mowst*-SAGE penn94",
        "Mowst*-GIN-skip pokec",
        "Mowst-GCN twitch-gamer",
        "GAT penn94",
        "H2GCN pokec",
        "MLP twitch-gamer",
        "GPR-GNN ogbn-products",
    ],
)
def test_a_row_runs_on_files_of_its_publisher(name, root):
    (spec,) = expand([ROWS[name] | QUICK])
    line = run_one(spec, root=root)
    assert line["status"] == "finished" and 0 <= line["test"] <= 1
    assert line.get("published") == ROWS[name].get("published")


def test_a_dry_run_lists_the_remaining_runs(capsys, tmp_path):
    paper.run(row=["Mowst*-GCN penn94", "GCN penn94"], dry=True, out=tmp_path, seeds=1)
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "Mowst*-GCN penn94, seed 0, split 0: to do",
        "GCN penn94, seed 0, split 0: to do",
    ]
    paper.run(row="GCN penn94", dry=True, out=tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == 5
    paper.run(all=True, dry=True, out=tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == sum(row["seeds"] for row in ROWS.values())


def test_printed_scores_are_marked_as_not_certified(capsys, root):
    paper.rows(root=str(root))
    shown = capsys.readouterr().out
    assert shown.count("(not certified)") == 13 + 30 and shown.count("data here") == len(ROWS)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "choose rows"),
        ({"row": ["GCN"]}, "no row 'GCN'"),
        ({"table": "mlp"}, "choose from mowst, baselines"),
    ],
)
def test_rows_that_do_not_exist_are_errors(options, problem, tmp_path):
    with pytest.raises(SystemExit, match=problem):
        paper.run(dry=True, out=tmp_path, **options)
