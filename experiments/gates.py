r"""Every gate over the same two experts, one JSON line per gate, data set and seed; finished lines are skipped.

    python experiments/gates.py run --root DATA            # appends to experiments/results/gates.jsonl
    python experiments/gates.py table                      # prints the table of that file as Markdown

Run k takes split k and seed k: an MLP and a GCN are trained alone once, and each gate starts from exactly them (mowst,
without pretraining). "step" is hard routing at D >= 1/2, "learned+x" reads the features beside the dispersion, "logits"
and "features" are the unbiased ablations. The lines "... out of fold" instead fit the gate once, to predictions that
experts of five folds make on training nodes they were not trained on, which trains experts of its own.
"""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import markdown, spread

from mowst import Mowst, TrainConfig, fit, load_task, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import preset
from mowst.study.lines import append_line, read_lines
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "gates.jsonl"
CELL = ["data", "seed", "gate"]
GATES: dict[str, dict[str, Any]] = {
    "power": {"confidence": "power"},
    "step": {"confidence": "step"},
    "monotone": {"confidence": "monotone"},
    "learned": {"confidence": "learned"},
    "learned+x": {"confidence": "learned", "gate_features": True},
    "hypernetwork": {"confidence": "hypernetwork"},
    "logits": {"confidence": "logits"},
    "features": {"confidence": "features"},
}
OUT_OF_FOLD = {f"{gate} out of fold": GATES[gate] for gate in ("monotone", "learned")}


def run(
    data: tuple[str, ...] = ("amherst41", "minesweeper"),
    seeds: int = 5,
    gate: tuple[str, ...] = (*GATES, *OUT_OF_FOLD),
    root: str | None = None,
    out: Path = RESULTS,
    threads: int = 1,
) -> None:
    r"""Runs the lines that the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: number of runs of each gate, counted from seed 0.
        gate: the gates.
        root: folder of the data sets.
        out: file to append to.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    made_by = environment()
    for seed in range(seeds):
        for name in data:
            known = {tuple(row[key] for key in CELL) for row in read_lines(out)}
            missing = [g for g in gate if (name, seed, g) not in known]
            for row in run_gates(name, seed, missing, root) if missing else ():
                append_line(out, row | {"environment": made_by})
                print(*(row[key] for key in CELL), flush=True)


def run_gates(data: str, seed: int, gates: list[str], root: str | None) -> Any:
    r"""Trains the experts once and yields the line of each gate over them."""
    task, row = load_task(data, root=root, split=seed), preset(data)
    train = TrainConfig(**{k: v for k, v in row.items() if k in TrainConfig.__dataclass_fields__})
    sizes = {k: v for k, v in row.items() if k in ModelConfig.__dataclass_fields__}
    shape = {"in_channels": task.num_features, "out_channels": task.num_classes}
    seed_everything(seed)
    pair = build_model(ModelConfig(**sizes), **shape)
    untrained = copy.deepcopy(pair)
    alone = {name: fit(pair, task, method=name, **asdict(train)).scores[name] for name in pair.expert_names}
    for gate in gates:
        config = ModelConfig(**sizes | (GATES | OUT_OF_FOLD)[gate])
        seed_everything(seed)
        confidence = build_model(config, **shape).confidence
        start, settings = (
            (untrained, {"gate_fit": "folds", "gate_folds": 5})
            if gate in OUT_OF_FOLD
            else (pair, {"gate_fit": "train", "pretrain": "none"})
        )
        experts = copy.deepcopy([start.weak, start.strong])
        model = Mowst(*experts, confidence, mix=config.mix, detach_dispersion=config.detach_dispersion)
        result = fit(model, task, method="mowst", **asdict(train) | settings)
        yield {
            "data": data,
            "seed": seed,
            "gate": gate,
            "alone": result.alone or alone,
            "parameters": sum(p.numel() for p in confidence.parameters()),
            "confidence": confidence_by_correctness(model, task),
            **{k: v for k, v in asdict(result).items() if k not in ("history", "alone")},
            "settings": asdict(config) | asdict(train) | settings,
        }


@torch.no_grad()
def confidence_by_correctness(model: Mowst, task: Any) -> dict[str, float]:
    r"""The mean confidence on training and test nodes, apart for those where the weak expert is right and wrong."""
    data, means = task.data, {}
    weak = model.logits(0, data.x, data.edge_index)
    confidence, right = model.gate(0, weak, data.x), weak.argmax(dim=-1) == data.y
    for split in ("train", "test"):
        for name, nodes in (("right", right), ("wrong", ~right)):
            means[f"{split}, {name}"] = float(confidence[task.masks[split] & nodes].mean())
    return means


def table(out: Path = RESULTS) -> None:
    r"""Prints mean and unbiased standard deviation over the runs, and paired differences to the GCN alone.

    Args:
        out: file to read.
    """
    frame, rows = pd.DataFrame(read_lines(out)), []
    for (data, gate), runs in frame.groupby(["data", "gate"], sort=False):
        strong = runs.alone.map(lambda scores: scores["strong"]["test"])
        means = pd.DataFrame(list(runs.confidence)).mean()
        rows.append(
            {
                "data (runs)": f"{data} ({len(runs)})",
                "gate": gate,
                "parameters": runs.parameters.iloc[0],
                "test": spread(100 * runs.test),
                "minus its GCN alone": spread(100 * (runs.test - strong), signed=True),
                "weak share": f"{100 * runs.weak_share.mean():.0f} %",
                **{f"C {name}": f"{value:.2f}" for name, value in means.items()},
            }
        )
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    auto_cli([run, table])
