import csv
import sys
from types import SimpleNamespace

import pytest

from mowst import GCN, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.train import CSV, MLflow, OptunaPruning, TensorBoard, WandB

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
CONFIG = TrainConfig(epochs=3, rounds=0, gate_folds=2)
NUMBERS = ("loss", "val_loss", "val_calibrated", "val", "confidence", "seconds")


class Calls(list):
    r"""A module or object of another package that keeps the calls of its functions."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self.append((name, args, kwargs))
            return self

        return call


def train(task, *callbacks):
    seed_everything(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), MonotoneGate())
    return fit(model, task, config=CONFIG, callbacks=callbacks).history


def expect(record):
    return {f"{record['part']}/{name}": record[name] for name in NUMBERS}


def test_csv_appends_one_row_for_each_record(task, tmp_path):
    history = train(task, CSV(tmp_path / "log.csv"))
    CSV(tmp_path / "log.csv")(history[-1])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[:-1] == [{key: str(value) for key, value in r.items()} for r in history]
    assert rows[-1] == rows[-2]


def test_tensorboard_gets_the_numbers_of_each_record(task, tmp_path, monkeypatch):
    calls = Calls()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", calls)
    logger = TensorBoard(tmp_path / "board", flush_secs=9)
    assert calls == []  # the folder of the run may be empty until training begins
    history = train(task, logger)
    assert calls[0] == ("SummaryWriter", (), {"log_dir": str(tmp_path / "board"), "flush_secs": 9})
    scalars = {args for name, args, _ in calls if name == "add_scalar"}
    assert scalars == {(*item, r["step"]) for r in history for item in expect(r).items()}
    assert {name for name, _, _ in calls[1:]} == {"add_scalar", "flush"}


def test_wandb_gets_the_numbers_of_each_record(task, monkeypatch):
    calls = Calls()
    calls.run = None
    monkeypatch.setitem(sys.modules, "wandb", calls)
    history = train(task, WandB(project="graphs"))
    assert calls[0] == ("init", (), {"project": "graphs"})
    assert calls[1:] == [("log", (expect(r),), {"step": r["step"]}) for r in history]
    calls.run = "the current run"
    train(task, WandB(project="graphs"))
    assert [name for name, _, _ in calls].count("init") == 1


def test_mlflow_gets_the_numbers_of_each_record(task, monkeypatch):
    calls = Calls()
    calls.active_run = lambda: None
    monkeypatch.setitem(sys.modules, "mlflow", calls)
    history = train(task, MLflow(run_name="one"))
    assert calls[0] == ("start_run", (), {"run_name": "one"})
    assert calls[1:] == [("log_metrics", (expect(r),), {"step": r["step"]}) for r in history]


@pytest.mark.parametrize(
    ("make", "package"),
    [(TensorBoard, "tensorboard"), (WandB, "wandb"), (MLflow, "mlflow")],
)
def test_a_missing_package_is_named(make, package, monkeypatch):
    for name in ("torch.utils.tensorboard", "wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"^{package} is missing: pip install {package}$"):
        make()


@pytest.mark.parametrize(("direction", "choose"), [("MAXIMIZE", max), ("MINIMIZE", min)])
def test_optuna_gets_the_best_score_and_prunes(task, direction, choose):
    optuna = pytest.importorskip("optuna")
    reports = []
    trial = SimpleNamespace(
        report=lambda value, step: reports.append((value, step)),
        should_prune=lambda: len(reports) == 5,
        study=SimpleNamespace(direction=SimpleNamespace(name=direction)),
    )
    seen = []
    with pytest.raises(optuna.TrialPruned, match="pruned at step 5"):
        train(task, seen.append, OptunaPruning(trial))
    best = [choose(record["val"] for record in seen[: k + 1]) for k in range(5)]
    assert reports == list(zip(best, range(1, 6), strict=True))


def test_an_optuna_study_prunes_a_bad_trial(task):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.ThresholdPruner(lower=1.1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(lambda trial: train(task, OptunaPruning(trial))[-1]["val"], n_trials=1)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
