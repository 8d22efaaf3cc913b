r"""Serve a model: a threshold with a guarantee, predictions for a few nodes, a graph that changes.

Expect, in about 10 seconds on 2 CPU cores: a threshold that loses at most 3 points of accuracy
against the strong expert (with probability 0.95), the cost of predictions before and after the
graph changes, and 100 % of equal labels with hidden layers on disk and in memory.
"""

import tempfile

import torch

from mowst import MLP, MonotoneGate, Mowst, build_expert, fit, load_task, seed_everything
from mowst.serve import Predictor, choose_threshold

seed_everything(0)
task = load_task("digits", split=0)
shape = dict(in_channels=task.num_features, out_channels=task.num_classes)
model = Mowst(MLP(**shape, hidden_channels=64), build_expert("sage", **shape), MonotoneGate())
fit(model, task, method="mowst")

# Calibration nodes must not have trained or selected the model: half of the test nodes here.
calibration, rest = task.index("test")[::2], task.index("test")[1::2]
choice = choose_threshold(model, task, max_drop=0.03, reference="strong", nodes=calibration)
print(choice)
if choice.threshold is None:
    raise SystemExit(
        f"no guarantee with {choice.num_nodes} nodes, about {choice.needed} are needed"
    )

predictor = Predictor(model, task.data, threshold=choice.threshold, cache=True)
prediction = predictor.predict(rest[:10])
print("ten nodes:", prediction.labels.tolist(), prediction.statistics)
print("again, from the cache:", predictor.predict(rest[:10]).statistics)

# A copy of a node with the neighbours of the original gets the same label.
original = rest[0]
neighbours = task.data.edge_index[0, task.data.edge_index[1] == original]
new = predictor.add_nodes(task.data.x[original].view(1, -1))
predictor.add_edges(torch.stack([neighbours, new.expand_as(neighbours)]))
prediction = predictor.predict([int(original), int(new)])
print("a node and its copy:", prediction.labels.tolist(), prediction.statistics)

# For hidden layers that do not fit into memory: 500 nodes at a time, rows in memory-mapped files.
with tempfile.TemporaryDirectory() as folder:
    on_disk = Predictor(model, task.data, threshold=choice.threshold, chunk_size=500, folder=folder)
    labels = on_disk.predict(torch.arange(task.num_nodes)).labels
in_memory = model.predict(task.data.x, task.data.edge_index, threshold=choice.threshold)
print(f"equal labels on disk and in memory: {float((labels == in_memory).float().mean()):.0%}")
