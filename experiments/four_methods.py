r"""The MLP, the GNN and both mixtures, each with settings of its own that a search of the same size found.

    python experiments/four_methods.py search --root DATA      # 28 sweeps: settings.yaml, trials.csv
    mowst study experiments/results/four_methods/settings.yaml experiments/results/four_methods --root DATA
    mowst report experiments/results/four_methods              # the tables again, from the lines

Every method has 12 trials on each data set with each GNN, of 60 seconds on one thread at most (minesweeper: 180), on
split 0 with seed 0, judged by the loss on its validation nodes. The first trial is what `mowst train` would do. The
search keeps its state in `sweeps.journal`: started again, it goes on.
"""

from itertools import product
from pathlib import Path

import pandas as pd
import yaml
from jsonargparse import auto_cli
from optuna import get_all_study_names, load_study
from optuna.trial import BaseTrial

from mowst.io import atomic_write
from mowst.study import best_row, sweep
from mowst.study.storage import open_storage

OUT = Path(__file__).parent / "results" / "four_methods"
DATA = ("digits", "cora", "amherst41", "minesweeper")
GNNS = ("gcn", "sage")
METHODS = ("weak", "strong", "mowst", "mowst-star")
TRIALS, TRIAL_SECONDS = 12, {"digits": 60, "cora": 60, "amherst41": 60, "minesweeper": 180}
TRIAL_COLUMNS = ("number", "value", "datetime_start", "duration", "params", "state")


def small_space(trial: BaseTrial, method: str, strong: str) -> None:
    r"""Narrower than the default one, for 12 trials."""
    trial.suggest_float("lr", 3e-3, 3e-2, log=True)
    trial.suggest_categorical("weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_float("dropout", 0.1, 0.7, step=0.1)
    trial.suggest_categorical("hidden_channels", [64, 128])
    trial.suggest_int("num_layers", 2, 4)
    if method != "weak":
        trial.suggest_categorical("strong_args.norm", [None, "layer_norm", "batch_norm"])
        trial.suggest_categorical("strong_args.skip", [False, True])
    if method.startswith("mowst"):
        trial.suggest_categorical("mix", ["prob", "logit"])
        trial.suggest_categorical("gate_features", [False, True])


def search(data: tuple[str, ...] = DATA, root: str | None = None, out: Path = OUT) -> None:
    r"""Runs the sweeps that are not complete yet, and writes what all of them found.

    Args:
        data: names of data sets.
        root: folder of the data sets.
        out: folder of the storage and of what was found.
    """
    out.mkdir(parents=True, exist_ok=True)
    storage = str(out / "sweeps.journal")
    for name, strong, method in product(data, GNNS, METHODS):
        if method == "weak" and strong != GNNS[0]:
            continue  # the same MLP with any GNN
        sweep(
            name,
            strong,
            method,
            storage=storage,
            space="four_methods.small_space",
            trials=TRIALS,
            trial_seconds=TRIAL_SECONDS[name],
            threads=1,
            root=root,
        )
        print(name, strong, method, flush=True)
    write(out)


def write(out: Path = OUT) -> None:
    r"""Writes `settings.yaml`, the best trial of each sweep as a row of a study, and `trials.csv`, every trial.

    Args:
        out: folder of the storage.
    """
    path = str(out / "sweeps.journal")
    storage = open_storage(path)
    names = get_all_study_names(storage)
    rows = [best_row(path, name) for name in names]
    for row in rows:
        row |= {"strong": list(GNNS) if row["method"] == "weak" else row["strong"], "seeds": 5}
    trials = [load_study(study_name=name, storage=storage).trials_dataframe(TRIAL_COLUMNS) for name in names]
    with atomic_write(out / "settings.yaml", mode="w") as file:
        yaml.safe_dump({"rows": rows}, file, sort_keys=False)
    with atomic_write(out / "trials.csv", mode="w") as file:
        pd.concat(trials, keys=names, names=["study", "index"]).droplevel("index").to_csv(file)


if __name__ == "__main__":
    auto_cli([search, write])
