r"""The MLP, the GNN and both mixtures, each with settings of its own that a search of the same size found.

    python experiments/four_methods.py search --root DATA      # 28 sweeps, kept in sweeps.journal
    python experiments/four_methods.py write                   # what they found: settings.yaml, trials.csv
    mowst study experiments/results/four_methods/settings.yaml experiments/results/four_methods --root DATA
    mowst report experiments/results/four_methods              # the tables again, from the lines
    python experiments/four_methods.py turns                   # what turns added to the start state

Every method has 8 trials on each data set with each GNN, of 600 seconds on one thread at most, on split 0 with seed 0,
judged by the loss on its validation nodes, cross-validated where gates are fitted to them. The first trial is what
`mowst train` would do. The search goes on when it is started again; several share the work by their data sets,
`--data "[digits, cora]"` beside `--data "[amherst41, minesweeper]"`, or by `--workers 2`.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
import yaml
from jsonargparse import auto_cli
from methods import markdown, spread
from optuna import get_all_study_names, load_study
from optuna.trial import BaseTrial

from mowst.io import atomic_write
from mowst.study import RESULTS, best_row, newest_lines, read_lines, sweep
from mowst.study.storage import open_storage

OUT = Path(__file__).parent / "results" / "four_methods"
DATA = ("digits", "cora", "amherst41", "minesweeper")
GNNS = ("gcn", "sage")
METHODS = ("weak", "strong", "mowst", "mowst-star")
TRIALS, TRIAL_SECONDS = 8, 600.0
# Less than `mowst train` does there, so that all of it can be made in an evening on two cores.
SETTINGS = {"minesweeper": {"epochs": 400, "patience": 50}}
TRIAL_COLUMNS = ("number", "value", "datetime_start", "duration", "params", "state")


def small_space(trial: BaseTrial, method: str, strong: str) -> None:
    r"""Narrower than the default one, for 8 trials."""
    trial.suggest_float("lr", 3e-3, 3e-2, log=True)
    trial.suggest_categorical("weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_float("dropout", 0.1, 0.7, step=0.1)
    trial.suggest_categorical("hidden_channels", [64, 128])
    trial.suggest_int("num_layers", 2, 4)
    if method != "weak":
        trial.suggest_categorical("strong_args.norm", [None, "layer_norm", "batch_norm"])
        trial.suggest_categorical("strong_args.skip", [False, True])
    if method.startswith("mowst") and trial.suggest_categorical("gate_fit", ["validation", "train"]) == "train":
        # What this leaves open is fitted or chosen by itself where the gate is fitted to validation nodes.
        trial.suggest_categorical("mix", ["prob", "logit"])
        if trial.suggest_categorical("confidence", ["learned", "monotone"]) == "learned":
            trial.suggest_categorical("gate_features", [False, True])


def search(data: tuple[str, ...] = DATA, root: str | None = None, out: Path = OUT, workers: int = 1) -> None:
    r"""Runs the sweeps that are not complete yet.

    Args:
        data: names of data sets.
        root: folder of the data sets.
        out: folder of the storage.
        workers: processes that share the trials of a sweep, each on one thread.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, strong, method in _sweeps(data):
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
    r"""Writes `settings.yaml`, the best trial of each sweep as a row of a study, and `trials.csv`, every trial.

    Args:
        out: folder of the storage.
    """
    path = str(out / "sweeps.journal")
    storage = open_storage(path)
    known = get_all_study_names(storage)
    names = [name for name in map(" ".join, _sweeps(DATA)) if name in known]
    rows = [best_row(path, name) for name in names]
    for row in rows:
        row |= {"strong": list(GNNS) if row["method"] == "weak" else row["strong"], "seeds": 5}
    trials = [load_study(study_name=name, storage=storage).trials_dataframe(TRIAL_COLUMNS) for name in names]
    with atomic_write(out / "settings.yaml", mode="w") as file:
        yaml.safe_dump({"rows": rows}, file, sort_keys=False)
    with atomic_write(out / "trials.csv", mode="w") as file:
        pd.concat(trials, keys=names, names=["study", "index"]).droplevel("index").to_csv(file)


def turns(out: Path = OUT) -> None:
    r"""Prints what the mixtures whose confidence is fitted to validation nodes gained, in points of the test metric:
    before any turn, over the run's own GNN, and by turns, over that start.

    Args:
        out: folder of the lines.
    """
    lines = [
        line for line in newest_lines(read_lines(out / RESULTS)) if line.get("start") and "strong" in line["alone"]
    ]
    keys = ("data", "strong", "method", "test")
    frame = pd.DataFrame(
        {key: line[key] for key in keys} | {"start": line["start"]["test"], "alone": line["alone"]["strong"]["test"]}
        for line in lines
    )
    rows = []
    for (data, strong, method), runs in frame.groupby(["data", "strong", "method"], sort=False):
        test, start, alone = (100 * runs[key] for key in ("test", "start", "alone"))
        rows.append(
            {
                "data (runs)": f"{data} ({len(runs)})",
                "GNN": strong,
                "method": method,
                "its GNN alone": spread(alone),
                "start - its GNN": spread(start - alone, signed=True),
                "after turns - start": spread(test - start, signed=True),
            }
        )
    print(markdown(pd.DataFrame(rows)))


def _sweeps(data: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    # The MLP is the same with any GNN.
    return (found for found in product(data, GNNS, METHODS) if found[1:] not in product(GNNS[1:], ["weak"]))


if __name__ == "__main__":
    auto_cli([search, write, turns])
