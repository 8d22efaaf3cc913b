r"""Use a message passing class of your own as the strong expert.

Its forward(x, edge_index) returns logits of shape [num_nodes, num_classes]. Nothing is registered.
On the command line, the same class is `mowst train --strong my_file.MeanMaxGNN`.

Expect, in about 15 seconds on 2 CPU cores: GNN alone 0.97, Mowst 0.98.
"""

import torch
from torch_geometric.nn import MessagePassing

from mowst import MLP, MonotoneGate, Mowst, fit, load_task, seed_everything


class MeanMaxConv(MessagePassing):
    def __init__(self, in_channels, out_channels):
        super().__init__(aggr=["mean", "max"])
        self.lin = torch.nn.Linear(3 * in_channels, out_channels)

    def forward(self, x, edge_index):
        return self.lin(torch.cat([x, self.propagate(edge_index, x=x)], dim=-1))


class MeanMaxGNN(torch.nn.Module):
    def __init__(self, in_channels, hidden_channels, out_channels, dropout=0.5):
        super().__init__()
        self.conv1 = MeanMaxConv(in_channels, hidden_channels)
        self.conv2 = MeanMaxConv(hidden_channels, out_channels)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x, edge_index):
        return self.conv2(self.dropout(self.conv1(x, edge_index).relu()), edge_index)


if __name__ == "__main__":
    seed_everything(0)
    task = load_task("digits", split=0)
    sizes = dict(in_channels=task.num_features, hidden_channels=64, out_channels=task.num_classes)
    model = Mowst(MLP(**sizes, dropout=0.5), MeanMaxGNN(**sizes), MonotoneGate())
    result = fit(model, task)
    print(f"GNN alone: {result.alone['strong']['test']:.4f}, Mowst: {result.test:.4f}")

    model.save("own_gnn.safetensors")
    loaded = Mowst.load("own_gnn.safetensors", strong=MeanMaxGNN(**sizes))
    x, edge_index = task.data.x, task.data.edge_index
    same = torch.equal(loaded.predict(x, edge_index), model.predict(x, edge_index))
    print("the loaded model has the same predictions:", same)
