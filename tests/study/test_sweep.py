import multiprocessing
import os
import signal
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from mowst import fit, seed_everything
from mowst.study import expand, objective
from mowst.study.best import best_row
from mowst.study.objective import Objective, Search, hide_test_nodes
from mowst.study.run import build_run_model, load_run_task
from mowst.study.runner import START_METHOD
from mowst.study.space import nest_settings
from mowst.study.storage import identify_process, open_storage
from mowst.study.sweep import sweep
from mowst.train.calibration import calibrated_nll

optuna.logging.set_verbosity(optuna.logging.ERROR)

QUICK = {"epochs": 3, "rounds": 1, "hidden_channels": 8, "gate_folds": 2}
FAST = QUICK | {"gate_fit": "train"}  # a fit of the gate on validation nodes takes longer
TWO = {"second_objective": "deferred_share"}
STATES = {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.fixture
def graph(data, tmp_path):
    folder = tmp_path / "graph"
    folder.mkdir()
    arrays = {"features": data.x, "edges": data.edge_index.T, "labels": data.y}
    for name, array in (
        arrays | {f"{s}_mask": data[f"{s}_mask"] for s in ("train", "val", "test")}
    ).items():
        np.save(folder / f"{name}.npy", array.numpy())
    return str(folder)


def finished(study):
    return [trial for trial in study.trials if trial.state in STATES]


def told(study):
    return [
        (trial.params, trial.values, trial.state, trial.intermediate_values)
        for trial in study.trials
    ]


def search_of(data, **changed):
    return Search(
        **dict(data=data, strong="gcn", method="mowst", space="default", seeds=1, splits=None)
        | changed
    )


# What a trial is worth


@pytest.mark.parametrize(
    ("method", "select", "trials"),
    [
        ("weak", "calibrated", 2),
        ("weak", "metric", 2),
        ("mowst", "loss", 1),
        ("mowst-star", "calibrated", 2),
    ],
)
def test_the_value_is_the_mean_of_the_scores_that_select(graph, method, select, trials):
    settings = QUICK | {"select": select}
    study = sweep(graph, method=method, trials=trials, seeds=2, settings=settings)
    for trial in study.trials:
        row = {"data": graph, "method": method, "seeds": 2} | settings | nest_settings(trial.params)
        scores = []
        for spec in expand([row]):
            task = load_run_task(spec.data, spec.split, spec.settings)
            seed_everything(spec.seed)
            model = build_run_model(spec, task)
            result = fit(model, task, method, spec.train_config)
            prob = model(task.data.x, task.data.edge_index).prob.detach()
            calibrated = calibrated_nll(prob[task.index("val")], task.labels("val"))
            best = {
                "calibrated": -calibrated,
                "loss": -task.nll(prob, "val"),
                "metric": result.val,
            }[select]
            # Gates that are fitted to validation nodes are chosen by held-out loss.
            scores.append(-result.choices[result.chosen] if result.chosen else float(best))
        assert sum(trial.user_attrs["values"], []) == pytest.approx(scores, abs=1e-6)
        assert trial.value == pytest.approx(sum(scores) / 2, abs=1e-6)


def test_two_objectives_are_the_metric_and_the_deferred_share_of_fit(graph):
    study = sweep(graph, trials=1, seeds=2, settings=QUICK, **TWO)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "deferred_share"]
    for trial in study.trials:
        row = {"data": graph, "method": "mowst", "seeds": 2} | QUICK | nest_settings(trial.params)
        found = []
        for spec in expand([row]):
            task = hide_test_nodes(load_run_task(spec.data, spec.split, spec.settings))
            seed_everything(spec.seed)
            result = fit(build_run_model(spec, task), task, "mowst", spec.train_config)
            found.append([result.val, result.deferred_share])
        assert trial.values == pytest.approx(np.mean(found, axis=0).tolist(), abs=1e-6)


def test_a_trial_of_two_objectives_may_be_stopped(graph, monkeypatch):
    monkeypatch.setattr(objective, "REPORT_EVERY", 1)
    study = sweep(graph, trials=2, trial_seconds=0, settings=QUICK, **TWO)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2


@pytest.mark.parametrize("inductive", [False, True])
def test_a_trial_sees_no_test_split_and_no_other_labels(task, inductive):
    task = replace(task, inductive=inductive)
    seen = hide_test_nodes(task)
    assert seen.masks.keys() == {"train", "val"}
    with pytest.raises(ValueError, match="no split 'test'"):
        seen.labels("test")
    assert torch.equal(seen.data.y >= 0, seen.masks["train"] | seen.masks["val"])
    for split in seen.splits:
        assert torch.equal(seen.labels(split), task.labels(split))
    assert seen.num_nodes == task.num_nodes - inductive * int(task.masks["test"].sum())


@pytest.mark.parametrize("method", ["strong", "mowst"])
def test_labels_of_test_nodes_change_nothing(graph, method, monkeypatch):
    before = told(sweep(graph, method=method, trials=2, settings=QUICK))
    load = objective.load_run_task

    def poisoned(*args):
        task = load(*args)
        task.data.y[task.masks["test"]] = 2 - task.data.y[task.masks["test"]]
        return task

    monkeypatch.setattr(objective, "load_run_task", poisoned)
    assert told(sweep(graph, method=method, trials=2, settings=QUICK)) == before


# What a study holds


def test_a_sweep_repeats_itself_in_any_storage_and_in_parts(graph, tmp_path):
    whole = told(sweep(graph, trials=3, settings=FAST))
    for place in (f"sqlite:///{tmp_path}/s.db", f"{tmp_path}/s.log"):
        for trials in (1, 3):
            study = sweep(graph, trials=trials, storage=place, settings=FAST)
            assert len(finished(study)) == trials
        assert told(study) == whole


def test_presets_are_tried_first_and_once(graph, task, tmp_path, monkeypatch):
    call = {
        "data": "computers",
        "strong": "tuned-gcn",
        "storage": f"{tmp_path}/s.log",
        "settings": {"epochs": 3},
    }
    with monkeypatch.context() as patch:
        patch.setattr(objective, "load_run_task", lambda *_: task)
        for _ in range(2):
            study = sweep(**call, timeout=0)
            assert [trial.user_attrs["preset"] for trial in study.trials] == ["default", "tuned"]
    assert study.trials[1].system_attrs["fixed_params"]["hidden_channels"] == 512
    study = sweep(graph, trials=2, settings=QUICK)
    assert [trial.user_attrs.get("preset") for trial in study.trials] == ["default", None]
    assert study.trials[0].params["lr"] == 0.01


@pytest.mark.parametrize("failures", [1, 3])
def test_a_preset_whose_trial_failed_is_tried_at_most_twice_again(
    graph, tmp_path, monkeypatch, failures
):
    def fail(*_):
        raise RuntimeError("broken on purpose")

    call = {
        "data": graph,
        "method": "weak",
        "trials": 1,
        "storage": f"{tmp_path}/s.log",
        "settings": QUICK,
    }
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "train_run", fail)
        for _ in range(failures):
            with pytest.raises(RuntimeError, match="broken on purpose"):
                sweep(**call)
    assert sweep(**call).trials[-1].user_attrs.get("preset") == (
        "default" if failures < 3 else None
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"data": "corra"}, "did you mean 'cora'"),
        ({"data": "cora", "root": "nowhere"}, "planetoid/Cora"),
        ({"strong": "gnc"}, "unknown expert 'gnc'"),
        ({"splits": ["random"]}, "There is no split 'random'"),
    ],
)
def test_what_cannot_begin_leaves_no_study(graph, tmp_path, wrong, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        sweep(**{"data": graph, "settings": QUICK, "storage": f"sqlite:///{tmp_path}/s.db"} | wrong)
    assert not (tmp_path / "s.db").exists()


def test_a_study_made_otherwise_is_refused_by_name(graph, tmp_path):
    place = {"data": graph, "storage": f"{tmp_path}/s.log", "timeout": 0, "study_name": "s"}
    sweep(**place, settings={"epochs": 3, "strong_args": {"norm": None}})
    for change, told in (
        ({"seeds": 2}, "seeds = 1, not 2"),
        ({"method": "strong"}, "method = 'mowst', not 'strong'"),
        (TWO, "second_objective = None, not 'deferred_share'"),
        ({"settings": {"epochs": 4, "strong_args": {"norm": None}}}, "settings.epochs = 3, not 4"),
    ):
        with pytest.raises(ValueError, match=f"the study 's' was made with {told}"):
            sweep(**place | {"settings": {"epochs": 3, "strong_args": {"norm": None}}} | change)


def test_a_study_of_others_is_refused(graph, tmp_path):
    place = f"{tmp_path}/s.log"
    for name, directions in (("other way", ["minimize"]), ("two", ["maximize", "minimize"])):
        optuna.create_study(storage=open_storage(place), study_name=name, directions=directions)
        found = " and ".join(directions)
        with pytest.raises(ValueError, match=f"'{name}' exists to {found}, .* would maximize;"):
            sweep(graph, storage=place, study_name=name, settings=QUICK)
    study = optuna.create_study(storage=open_storage(place), study_name="own", direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match="'own' was not made by a sweep"):
        sweep(graph, storage=place, study_name="own", settings=QUICK)


def test_two_sweeps_that_begin_at_once_share_a_study(graph, tmp_path, monkeypatch):
    call = {"data": graph, "storage": f"{tmp_path}/s.log", "settings": QUICK, "timeout": 0}
    read, others = Search.of_study, [call]

    def begin_another(study):
        found = read(study)
        if others:
            sweep(**others.pop())
        return found

    monkeypatch.setattr(Search, "of_study", begin_another)
    study = sweep(**call)
    assert [trial.user_attrs["preset"] for trial in study.trials] == ["default"]


def test_a_journal_whose_last_line_was_cut_goes_on(graph, tmp_path):
    place = tmp_path / "s.log"
    call = {"data": graph, "method": "weak", "storage": str(place), "settings": QUICK}
    sweep(**call, trials=2)
    place.write_bytes(place.read_bytes()[:-25])
    assert best_row(str(place))["method"] == "weak"
    assert len(finished(sweep(**call, trials=3))) == 2  # of this process, one counts as running


def test_sampler_pruner_and_callbacks_are_those_given(graph):
    seen = []

    def watch(study, trial):
        seen.append((trial.number, trial.state.name))

    given = {"sampler": "random", "pruner": "none", "callbacks": [watch]}
    study = sweep(graph, method="weak", trials=2, settings=QUICK, **given)
    assert isinstance(study.sampler, optuna.samplers.RandomSampler)
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    assert seen == [(0, "COMPLETE"), (1, "COMPLETE")]


def test_a_method_of_ones_own_is_swept(graph, tmp_path, monkeypatch):
    own = "from mowst.train.methods import MowstMethod\nclass Own(MowstMethod): pass\n"
    (tmp_path / "own_method.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    study = sweep(graph, method="own_method.Own", trials=1, settings=QUICK)
    assert "weak.lr" in study.best_params


@pytest.mark.parametrize(
    "wrong,told",
    [
        ({"settings": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"settings": {"data": "cora"}}, "unknown setting 'data'"),
        ({"method": "mowts"}, "unknown method 'mowts'"),
        ({"space": "papers"}, "unknown space 'papers'"),
        ({"workers": 2}, "workers need a shared storage"),
        ({"seeds": 0}, "seeds and trials must be at least 1, got 0 and 30"),
        ({"trials": 0}, "seeds and trials must be at least 1, got 1 and 0"),
        ({"sampler": "cma"}, "unknown sampler 'cma', choose from tpe"),
        ({"pruner": "no"}, "unknown pruner 'no', choose from median"),
        (TWO | {"pruner": "median"}, "'median' and second_objective exclude each other"),
        (TWO | {"method": "strong"}, "needs a method with a gate: 'strong' has none"),
        ({"second_objective": "seconds"}, "'seconds', choose 'deferred_share'"),
    ],
)
def test_what_is_wrong_is_said_before_any_trial(graph, wrong, told):
    with pytest.raises(ValueError, match=told):
        sweep(graph, **wrong)


def test_the_best_trial_is_a_row_of_a_study(graph, tmp_path):
    place = f"{tmp_path}/s.log"
    settings = QUICK | {"strong_args": {"jk": "last"}, "transforms": ["self-loops"]}
    study = sweep(graph, "sage", "mowst-star", trials=4, storage=place, settings=settings)
    (spec,) = expand([best_row(place)])
    assert (spec.data, spec.strong, spec.method) == (graph, "sage", "mowst-star")
    assert spec.settings["strong_args"]["jk"] == "last"
    assert (
        spec.all_settings["transforms"] == ["self-loops"] and spec.settings["hidden_channels"] == 8
    )
    again = Objective(
        search_of(graph, strong="sage", method="mowst-star", settings=spec.settings, fixed=[]), 1
    )
    assert again.train_run(spec) == [pytest.approx(study.best_value, abs=1e-6)]


def test_a_storage_of_other_studies_than_one_lists_them(tmp_path):
    place = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(ValueError, match="does not exist"):
        best_row(place)
    assert not list(tmp_path.iterdir())
    opened = open_storage(place)
    with pytest.raises(ValueError, match="s.db' holds no study$"):
        best_row(place)
    for name in ("one", "two"):
        optuna.create_study(storage=opened, study_name=name)
    with pytest.raises(
        ValueError, match="s.db' holds several studies; name one of these: one; two"
    ):
        best_row(place)
    with pytest.raises(ValueError, match="holds no study 'three'; name one of these: one; two"):
        best_row(place, "three")
    with pytest.raises(ValueError, match="the study 'one' .* was not made by a sweep"):
        best_row(place, "one")


# How a trial ends


@pytest.mark.parametrize("method", ["strong", "mowst-star"])
def test_trials_below_the_median_after_as_many_evaluations_are_pruned(graph, method, monkeypatch):
    monkeypatch.setattr(objective, "REPORT_EVERY", 1)
    held = {
        "epochs": 6,
        "patience": None,
        "hidden_channels": 8,
        "pretrain": "both",
        "optimizer": "adam",
    }
    joint = {"gate_fit": "train", "rounds": 1}
    study = sweep(
        graph, method=method, trials=14, settings=held | ({} if method == "strong" else joint)
    )
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    whole = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert pruned and len(pruned) + len(whole) == 14
    # Of a mixture, the weak expert's own 6 epochs do not count.
    assert {len(trial.intermediate_values) for trial in whole} == {6 if method == "strong" else 12}
    for trial in pruned:
        before = [other for other in whole if other.number < trial.number]
        assert len(before) >= 5
        assert trial.value < np.median(
            [other.intermediate_values[trial.last_step] for other in before]
        )


def test_a_trial_ends_at_its_time_limit(graph):
    settings = {"epochs": 1_000_000, "patience": None, "hidden_channels": 8}
    start = time.monotonic()
    study = sweep(graph, method="weak", trials=2, trial_seconds=0.2, settings=settings)
    assert time.monotonic() - start < 10
    for trial in study.trials:
        assert (trial.state, trial.user_attrs["stopped"]) == (
            TrialState.PRUNED,
            "it took more than 0.2 s",
        )


def test_no_trial_begins_after_the_time_of_the_sweep(graph):
    study = sweep(graph, trials=3, timeout=0, settings=QUICK)
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_a_diverging_trial_is_pruned_with_the_reason(graph, monkeypatch):
    def diverge(*args):
        raise FloatingPointError("the loss became nan")

    monkeypatch.setattr(Objective, "train_run", diverge)
    study = sweep(graph, trials=2, settings=QUICK)
    assert [trial.user_attrs["stopped"] for trial in finished(study)] == ["the loss became nan"] * 2


def test_of_one_trial_too_many_only_the_last_gives_way(graph):
    study = sweep(graph, timeout=0, settings=QUICK)
    late = [study.ask() for _ in range(4)]
    run = Objective(search_of(graph, method="weak", settings=QUICK, fixed=sorted(QUICK)), trials=3)
    with pytest.raises(objective.SurplusTrial):
        run(late[3])
    for trial in late[:3]:
        assert run(trial)[0] < 0


# Several processes, some of which are killed

TRIALS = 6
SPACE = """
    import time
    from pathlib import Path
    from mowst.study.space import default_space

    def space(trial, method, strong):
        default_space(trial, method, strong)
        while trial.number >= 2 and not Path("go").exists():
            time.sleep(0.01)
"""


def wait_for(call, number):
    r"""The study, and a running trial's process, once so many trials are finished."""
    study = optuna.load_study(study_name=call["study_name"], storage=open_storage(call["storage"]))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.02)
        trials = study.trials
        running = [trial.user_attrs for trial in trials if trial.state == TrialState.RUNNING]
        owners = [attrs["process"] for attrs in running if "process" in attrs]
        if owners and sum(trial.state in STATES for trial in trials) >= number:
            return study, int(owners[0][1])
    raise TimeoutError(f"no {number} trials")


def check(study, before):
    done = finished(study)
    assert len(done) == TRIALS and study.trials[-1].state != TrialState.WAITING
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    assert [
        told for told in before if told not in [(t.number, t.params, t.values) for t in done]
    ] == []
    assert len({str(trial.params) for trial in done}) == TRIALS
    broken = [t for t in study.trials if t.state == TrialState.FAIL]
    assert broken and all(any(b.params.items() <= t.params.items() for t in done) for b in broken)


WITHOUT_SERVER = pytest.mark.skipif(
    "MOWST_TEST_POSTGRES" not in os.environ,
    reason="MOWST_TEST_POSTGRES names no server: apt-get install postgresql; "
    "pip install 'psycopg[binary]'; as user postgres, by /usr/lib/postgresql/*/bin: "
    "initdb -A trust -D data; pg_ctl -D data -o '-p 5433 -k /tmp' start; then "
    "MOWST_TEST_POSTGRES=postgresql://postgres@localhost:5433/postgres",
)


@pytest.fixture(params=["sqlite", "journal", pytest.param("postgresql", marks=WITHOUT_SERVER)])
def call(request, graph, tmp_path, monkeypatch):
    r"""The arguments of a sweep whose trials, from the third on, wait for a file "go"."""
    (tmp_path / "own.py").write_text(textwrap.dedent(SPACE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    server = os.environ.get("MOWST_TEST_POSTGRES")
    place = {
        "sqlite": f"sqlite:///{tmp_path}/s.db",
        "journal": f"{tmp_path}/s.log",
        "postgresql": server,
    }
    call = {
        "data": graph,
        "method": "weak",
        "settings": QUICK,
        "space": "own.space",
        "storage": place[request.param],
    }
    call["study_name"] = f"test {time.time()}"
    sweep(**call, timeout=0)
    yield call | {"trials": TRIALS}
    optuna.delete_study(study_name=call["study_name"], storage=open_storage(call["storage"]))


@pytest.mark.slow
def test_a_killed_sweep_continues(call):
    victim = multiprocessing.get_context(START_METHOD).Process(target=sweep, kwargs=call)
    victim.start()
    study, number = wait_for(call, 2)
    assert number == victim.pid and identify_process(number)
    victim.kill()
    victim.join()
    Path("go").touch()
    before = [(t.number, t.params, t.values) for t in finished(study)]
    check(sweep(**call), before)


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_finish_so_many_trials(call):
    found = []

    def kill_one():
        study, number = wait_for(call, 2)
        found.extend((t.number, t.params, t.values) for t in finished(study))
        os.kill(number, signal.SIGKILL)
        Path("go").touch()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(ChildProcessError, match="1 of 2 workers died"):
        sweep(**call, workers=2)
    killer.join()
    check(sweep(**call, workers=2), found)
