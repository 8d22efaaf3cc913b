r"""Serving: a threshold with a guarantee, answers for a few nodes at a time, and a graph that changes meanwhile.

Expect, in about 10 seconds on 2 CPU cores: with a threshold that loses at most 3 points against the strong expert alone
(in 95 of 100 draws of the calibration nodes), the statistics of a question before and after the graph grows, and the
layers on disk answering as those in memory.
"""

import tempfile

import torch

from mowst import MLP, MonotoneConfidence, Mowst, build_expert, fit, load_task, seed_everything
from mowst.inference import Predictor, choose_threshold

seed_everything(0)
task = load_task("digits", split=0)
shape = {"in_channels": task.num_features, "out_channels": task.num_classes}
model = Mowst(MLP(**shape, hidden_channels=64), build_expert("sage", **shape), MonotoneConfidence())
fit(model, task, method="mowst")

# Calibration nodes must not have trained or selected the model; here half of the test nodes are spent on it.
calibration, rest = task.index("test")[::2], task.index("test")[1::2]
choice = choose_threshold(model, task, max_drop=0.03, reference="strong", nodes=calibration)
print(choice)
if choice.threshold is None:
    raise SystemExit(f"{choice.num_nodes} calibration nodes are too few for this claim, {choice.needed} might do")

server = Predictor(model, task.data, threshold=choice.threshold, cache=True)
answer = server.predict(rest[:10])
print("ten nodes:", answer.labels.tolist(), answer.statistics)
print("again, from the cache:", server.predict(rest[:10]).statistics)

# A copy of a node, with the neighbours of the original, gets the same label.
original = rest[0]
neighbours = task.data.edge_index[0, task.data.edge_index[1] == original]
new = server.add_nodes(task.data.x[original].view(1, -1))
server.add_edges(torch.stack([neighbours, new.expand_as(neighbours)]))
answer = server.predict([int(original), int(new)])
print("a node and its copy:", answer.labels.tolist(), answer.statistics)

# For graphs whose hidden rows do not fit into memory: 500 nodes at a time, rows in files that go with the predictor.
with tempfile.TemporaryDirectory() as folder:
    everything = Predictor(model, task.data, threshold=choice.threshold, chunk_size=500, folder=folder)
    labels = everything.predict(torch.arange(task.num_nodes)).labels
in_memory = model.predict(task.data.x, task.data.edge_index, threshold=choice.threshold)
print("labels from disk and memory that agree:", f"{float((labels == in_memory).float().mean()):.0%}")
