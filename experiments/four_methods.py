r"""The MLP, the GNN and both mixtures, each with its own settings, found by searches of one size.

    python experiments/four_methods.py search --root DATA      # 28 sweeps, in sweeps.journal
    python experiments/four_methods.py write                   # settings.yaml and trials.csv
    cd experiments/results/four_methods
    mowst study settings.yaml . --root DATA
    mowst report .                                             # the tables, from the lines
    python experiments/four_methods.py rounds                  # what rounds added to the start

Every method has 8 trials on each data set with each GNN, of 600 seconds on one thread at most, on
split 0 with seed 0, judged by the loss on its validation nodes, cross-validated where gates are
fitted to them. The first trial takes the settings of `mowst train`. A search that is started again
continues. Several processes share the work by data set (`--data "[digits, cora]"` and
`--data "[amherst41, minesweeper]"`) or by `--workers 2`.
"""

from itertools import product
from pathlib import Path

import pandas as pd
import yaml
from common import markdown, select_scores, spread
from jsonargparse import auto_cli
from optuna import get_all_study_names, load_study
from optuna.trial import BaseTrial

from mowst.io import atomic_write
from mowst.study import RESULTS, best_row, read_lines, select_newest, sweep
from mowst.study.storage import open_storage

OUT = Path(__file__).parent / "results" / "four_methods"
DATA = ("digits", "cora", "amherst41", "minesweeper")
GNNS = ("gcn", "sage")
METHODS = ("weak", "strong", "mowst", "mowst-star")
TRIALS, TRIAL_SECONDS = 8, 600.0
# Less than `mowst train`, so that everything runs in an evening on two cores.
SETTINGS = {"minesweeper": {"epochs": 400, "patience": 50}}
TRIAL_COLUMNS = ("number", "value", "datetime_start", "duration", "params", "state")


def small_space(trial: BaseTrial, method: str, strong: str) -> None:
    r"""A narrower space than the default one, for 8 trials."""
    trial.suggest_float("lr", 3e-3, 3e-2, log=True)
    trial.suggest_categorical("weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_float("dropout", 0.1, 0.7, step=0.1)
    trial.suggest_categorical("hidden_channels", [64, 128])
    trial.suggest_int("num_layers", 2, 4)
    if method != "weak":
        trial.suggest_categorical("strong_args.norm", [None, "layer_norm", "batch_norm"])
        trial.suggest_categorical("strong_args.skip", [False, True])
    if not method.startswith("mowst"):
        return
    if trial.suggest_categorical("gate_fit", ["validation", "train"]) == "train":
        # A gate that is fitted to validation nodes leaves nothing of this open.
        trial.suggest_categorical("mix", ["prob", "logit"])
        if trial.suggest_categorical("gate", ["learned", "monotone"]) == "learned":
            trial.suggest_categorical("gate_features", [False, True])


def search(
    data: tuple[str, ...] = DATA, root: str | None = None, out: Path = OUT, workers: int = 1
) -> None:
    r"""Runs the sweeps that are not complete yet.

    Args:
        data: names of data sets.
        root: folder of the data sets.
        out: folder of the storage.
        workers: processes that share the trials of a sweep, each on one thread.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, strong, method in list_sweeps(data):
        sweep(
            name,
            strong,
            method,
            storage=str(out / "sweeps.journal"),
            space="four_methods.small_space",
            settings=SETTINGS.get(name),
            trials=TRIALS,
            trial_seconds=TRIAL_SECONDS,
            workers=workers,
            threads=workers,
            root=root,
        )
        print(name, strong, method, flush=True)


def write(out: Path = OUT) -> None:
    r"""Writes `settings.yaml`, the best trial of each sweep as a row of a study, and `trials.csv`,
    every trial.

    Args:
        out: folder of the storage.
    """
    path = str(out / "sweeps.journal")
    storage = open_storage(path)
    known = get_all_study_names(storage)
    names = [" ".join(found) for found in list_sweeps(DATA) if " ".join(found) in known]
    rows, trials = [], []
    for name in names:
        row = best_row(path, name)
        if row["method"] == "weak":
            row["strong"] = list(GNNS)
        rows.append(row | {"seeds": 5})
        study = load_study(study_name=name, storage=storage)
        trials.append(study.trials_dataframe(TRIAL_COLUMNS))
    frame = pd.concat(trials, keys=names, names=["study", "index"]).droplevel("index")
    with atomic_write(out / "settings.yaml", mode="w") as file:
        yaml.safe_dump({"rows": rows}, file, sort_keys=False)
    with atomic_write(out / "trials.csv", mode="w") as file:
        frame.to_csv(file)


def rounds(out: Path = OUT) -> None:
    r"""Prints what the mixtures whose gate is fitted to validation nodes gained, in points of the
    test metric: before any round, over the run's own GNN, and by rounds, over that start.

    Args:
        out: folder of the lines.
    """
    lines = []
    for line in select_newest(read_lines(out / RESULTS)):
        if line.get("start") and "strong" in line["alone"]:
            lines.append(line | {"start": line["start"]["test"]})
    rows = []
    groups = pd.DataFrame(lines).groupby(["data", "strong", "method"], sort=False)
    for (data, strong, method), runs in groups:
        alone = select_scores(runs.alone, "strong")
        rows.append(
            {
                "data (runs)": f"{data} ({len(runs)})",
                "GNN": strong,
                "method": method,
                "its GNN alone": spread(100 * alone),
                "start - its GNN": spread(100 * (runs.start - alone), signed=True),
                "after rounds - start": spread(100 * (runs.test - runs.start), signed=True),
            }
        )
    print(markdown(rows))


def list_sweeps(data: tuple[str, ...]) -> list[tuple[str, str, str]]:
    r"""Lists the sweeps as data set, GNN and method. The MLP is the same with any GNN."""
    sweeps = []
    for name, strong, method in product(data, GNNS, METHODS):
        if method != "weak" or strong == GNNS[0]:
            sweeps.append((name, strong, method))
    return sweeps


if __name__ == "__main__":
    auto_cli([search, write, rounds])
