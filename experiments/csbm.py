r"""Does the gate find the population that the features speak for? The default settings on the generated `csbm`.

python experiments/csbm.py        # about a minute; appends to experiments/results/csbm.jsonl and prints each line
"""

import json
from pathlib import Path

from mowst import fit, load_task, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "csbm.jsonl"

if __name__ == "__main__":
    made_by = environment()
    for method in ("mowst", "mowst-star"):
        for seed in range(3):
            task = load_task("csbm", split=seed)
            seed_everything(seed)
            model = build_model(ModelConfig(), in_channels=task.num_features, out_channels=task.num_classes)
            result = fit(model, task, method=method)
            confidence = model(task.data.x, task.data.edge_index).confidence.detach()
            means = [float(confidence[task.data.population == k].mean()) for k in (0, 1)]
            row = {
                "method": method,
                "seed": seed,
                "split": seed,
                "mean_confidence": {"features tell the class": means[0], "neighbours tell the class": means[1]},
                "test": result.test,
                "alone": {expert: scores["test"] for expert, scores in result.alone.items()},
                "environment": made_by,
            }
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print({key: value for key, value in row.items() if key != "environment"})
