from dataclasses import fields

import pytest

from mowst import TrainConfig
from mowst.nn.build import ModelConfig
from mowst.study import RunSpec, expand, read_rows
from mowst.study.run_spec import find_split
from mowst.study.values import ROW_TYPES, SETTINGS, TYPES
from mowst.train import METHODS
from mowst.train.config import SETTINGS as TRAIN_SETTINGS

ROW = {"data": ["digits", "cora"], "strong": ["gcn", "sage"], "method": METHODS.names(), "seeds": 3}


def test_a_row_is_every_combination_once():
    specs = expand([ROW, ROW | {"seeds": [1, 2]}])
    assert len({spec.id for spec in specs}) == len(specs) == 2 * 2 * 4 * 3
    assert {spec.seed for spec in specs[:16]} == {0}, "the first seed of everything comes first"
    assert specs[0].name == "digits gcn mowst"


def test_a_row_of_one_run_needs_nothing_but_data():
    (spec,) = expand([{"data": "cora"}])
    assert spec == RunSpec("cora", "gcn", "mowst", 0, 0)
    assert spec.model_config == ModelConfig() and spec.train_config == TrainConfig()


def test_the_id_tells_runs_apart_by_everything_but_name_and_published_score():
    base = RunSpec("cora")
    others = [
        RunSpec("cora-full"),
        RunSpec("cora", strong="sage"),
        RunSpec("cora", method="strong"),
        RunSpec("cora", seed=1),
        RunSpec("cora", split="random-0"),
        *(
            RunSpec("cora", settings=settings)
            for settings in (
                {"dropout": 0.1},
                {"lr": 0.1},
                {"transforms": ["undirected"]},
                {"metric": "f1"},
                {"class_weight": "balanced"},
                {"inductive": True},
                {"weak.lr": 0.1},
                {"pretraining.lr": 0.1},
                {"strong_args": {"norm": "batch_norm"}},
            )
        ),
    ]
    assert len({base.id, *(spec.id for spec in others)}) == len(others) + 1
    assert base.id == RunSpec("cora", name="other", published={"mean": 1.0}).id
    assert len(base.id) == 16 and int(base.id, 16) >= 0


def test_the_id_does_not_depend_on_how_a_setting_is_written():
    given = RunSpec("cora", settings={"weight_decay": 0, "transforms": ["undirected"], "lr": 0.01})
    assert (
        given.id
        == RunSpec("cora", settings={"transforms": ("undirected",), "weight_decay": 0.0}).id
    )
    assert RunSpec("cora", method="mowst*").id == RunSpec("cora", method="mowst-star").id


def test_all_settings_are_in_the_line():
    names = {entry.name for entry in fields(ModelConfig)} | set(TRAIN_SETTINGS)
    assert set(RunSpec("cora").all_settings) == names | {
        "transforms",
        "metric",
        "class_weight",
        "inductive",
    }
    assert RunSpec("cora", settings={"rounds": 3}).all_settings["rounds"] == 3


@pytest.mark.parametrize(
    ("data", "splits"),
    [
        ("cora", [0, 0, 0]),
        ("minesweeper", [0, 1, 11 % 10]),
        ("digits", [0, 1, 11]),
        ("penn94", [0, 1, 1]),
    ],
)
def test_the_find_split_a_seed_follows_what_is_published(data, splits):
    assert [spec.split for spec in expand([{"data": data, "seeds": [0, 1, 11]}])] == splits


def test_given_splits_run_with_every_seed():
    specs = expand([{"data": "cora", "seeds": 2, "splits": ["random-0", "random-1"]}])
    assert [(c.seed, c.split) for c in specs] == [
        (s, f"random-{k}") for s in range(2) for k in range(2)
    ]
    assert [spec.split for spec in expand([{"data": "digits", "splits": 3}])] == [0, 1, 2]


def test_a_folder_has_one_split_or_as_many_as_seeds(tmp_path):
    assert find_split(str(tmp_path), seed=3) == 3
    (tmp_path / "splits.csv").touch()
    assert find_split(str(tmp_path), seed=3) == 0


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"data": "cora", "droput": 0.1}, "unknown key 'droput'; did you mean 'dropout'"),
        ({"data": "cora", "seed": 1}, "unknown key 'seed'; did you mean 'seeds'"),
        ({"strong": "gcn"}, "names no data"),
        ({"data": "corra"}, "did you mean 'cora'"),
        ({"data": "cora", "method": "most"}, "unknown method 'most'"),
        ({"data": "cora", "lr": -1}, "lr must be above zero"),
        ({"data": "cora", "batch_size": 9}, "batch_size has no effect"),
        ({"data": "cora", "weak.lr": "high"}, r"weak.lr must be float \| None, got 'high'"),
        ({"data": "cora", "strong.epochs": 0.5}, r"strong.epochs must be int \| None, got 0.5"),
        ({"data": "cora", "weak.lrs": 1}, "unknown key 'weak.lrs'; did you mean 'weak.lr'"),
        ({"data": 3}, r"data must be str \| list\[str\], got 3"),
        ({"data": "cora", "name": 5}, "name must be str, got 5"),
        ({"data": "cora", "weak": 5}, "weak must be str, got 5"),
        ({"data": "cora", "lr": "high"}, "lr must be float, got 'high'"),
        ({"data": "cora", "epochs": "many"}, "epochs must be int, got 'many'"),
        ({"data": "cora", "inductive": "maybe"}, "inductive must be bool, got 'maybe'"),
        ({"data": "cora", "published": 80}, "published must be .*, got 80"),
        (
            {"data": "cora", "transforms": "undirected"},
            r"transforms must be list\[str\], got 'undirected'",
        ),
        ({"data": "cora", "seeds": 0}, "has no run"),
        ({"data": [], "seeds": 2}, "has no run"),
        ({"data": "cora", "preset": "tuned"}, "preset 'tuned' has no row for cora with gcn"),
    ],
)
def test_impossible_rows_are_refused(row, problem):
    with pytest.raises(ValueError, match=problem):
        expand([row])


def test_every_key_of_a_row_has_a_type():
    assert TYPES.keys() == {*ROW_TYPES, *SETTINGS}


def test_overrides_of_a_row_reach_their_part_and_phase():
    row = {"data": "cora", "lr": 0.01, "weak.lr": "0.03", "pretraining.dropout": 0.2}
    (spec,) = expand([row])
    config = spec.train_config
    assert (config.weak.lr, config.pretraining.dropout) == (0.03, 0.2)
    assert (config.merge_overrides("weak").lr, config.merge_overrides("strong").lr) == (0.03, 0.01)
    found = {key: value for key, value in spec.all_settings.items() if "." in key}
    assert found == {"weak.lr": 0.03, "pretraining.dropout": 0.2}


@pytest.mark.parametrize("value", [False, "false"])
def test_what_means_false_is_false(value):
    (spec,) = expand([{"data": "cora", "inductive": value}])
    assert spec.settings["inductive"] is False


def test_settings_of_a_cell_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="unknown setting 'strong'"):
        RunSpec("cora", settings={"strong": "gcn"})


def test_a_row_starts_from_its_preset():
    row = {
        "data": "computers",
        "strong": ["tuned-gcn", "tuned-sage"],
        "method": "strong",
        "preset": "tuned",
    }
    first, second = expand([row | {"epochs": 7}])
    assert first.settings["hidden_channels"] == 512 and second.settings["hidden_channels"] == 64
    assert first.train_config.epochs == 7 and first.train_config.patience is None


def test_rows_are_those_of_all_lists_of_a_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "shared: &s {lr: 1e-3}\na:\n  - {<<: *s, data: cora}\nb:\n  - {data: digits, seeds: 2}\n"
    )
    assert read_rows(path) == [{"data": "cora", "lr": 0.001}, {"data": "digits", "seeds": 2}]
    for content in ("rows: {data: cora}", "data: cora", "rows: []"):
        path.write_text(content)
        with pytest.raises(ValueError, match="study.yaml has no row"):
            read_rows(path)
    path.write_text("rows: [cora]")
    with pytest.raises(ValueError, match="a row is a mapping"):
        read_rows(path)
