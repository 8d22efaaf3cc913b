r"""The model as a stage sees it: the parts that learn are run, all others are constants."""

from typing import NamedTuple

import torch
from torch import Tensor

from mowst.nn.mowst import EXPERTS, Mowst
from mowst.nn.signature import reads_graph
from mowst.nn.softmax import softmax
from mowst.task import GraphTask
from mowst.train.batches import Batch
from mowst.train.inputs import TaskInputs
from mowst.train.memory import autocast
from mowst.train.stage import Stage, StageOutput


class Prediction(NamedTuple):
    r"""What the model predicts on the validation nodes.

    Shapes:
        - **prob:** class probabilities :math:`(n, C)` or :math:`(n, L, 2)`
        - **confidence:** :math:`(n)`
    """

    prob: Tensor
    confidence: Tensor


class StageForward:
    r"""The training loss of a stage, and the prediction of its model on the validation nodes.

    A part that does not learn is a constant of the stage: its output is computed once, in
    evaluation mode. An expert that reads no edges, and the gate, run on the nodes of the split
    only. A stage of one expert runs nothing else.

    Args:
        model (Mowst): The model.
        task (GraphTask): The graph, labels and splits that training may see.
        stage (Stage): The stage.
        inputs (TaskInputs): The inputs of the task.
        precision (str, optional): The precision of the experts that learn in their forward pass for
            the loss, :obj:`"32"` or :obj:`"bf16"`. (default: :obj:`"32"`)

    Attributes:
        outputs (dict[str, torch.Tensor]): The logits of the last forward pass by name.
    """

    def __init__(
        self, model: Mowst, task: GraphTask, stage: Stage, inputs: TaskInputs, precision: str = "32"
    ) -> None:
        self.model = model
        self.task = task
        self.stage = stage
        self.inputs = inputs
        self.precision = precision
        self.outputs: dict[str, Tensor] = {}
        self._constants: dict[str, dict[str, Tensor]] = {"train": {}, "val": {}}
        if stage.predicts == "mixture":
            self._compute_constants()

    @property
    def reads_graph(self) -> bool:
        r"""Whether an expert that reads the graph runs for the loss."""
        running = EXPERTS if self.stage.predicts == "mixture" else (self.stage.predicts,)
        for name in running:
            if name not in self._constants["train"] and self._expert_reads_graph(name):
                return True
        return False

    def compute_loss(self, batch: Batch | None = None) -> Tensor:
        r"""Returns the loss of one forward pass in training mode, on all training nodes or on the
        share of a batch.
        """
        assert self.stage.loss is not None
        for name in self.stage.learns:
            getattr(self.model, name).train()
        y, weight = self.task.labels("train"), self.task.class_weights
        if batch is None:
            return self.stage.loss(self._run("train"), y, class_weight=weight)
        loss = self.stage.loss(self._run("train", batch), y[batch.rows], class_weight=weight)
        return batch.share * loss

    @torch.no_grad()
    def predict(self) -> Prediction:
        r"""Returns the prediction on the validation nodes, from one forward pass in evaluation
        mode.
        """
        for name in self.stage.learns:
            getattr(self.model, name).eval()
        out = self._run("val")
        if self.stage.predicts == "mixture":
            return Prediction(self.model.mixture(*out), out.confidence)
        prob = softmax(getattr(out, self.stage.predicts))
        confidence = prob.new_full(prob.shape[:1], float(self.stage.predicts == "weak"))
        return Prediction(prob, confidence)

    @torch.no_grad()
    def _compute_constants(self) -> None:
        model, constants = self.model, {}
        for name in EXPERTS:
            if name not in self.stage.learns:
                constants[name] = model.logits(name, self.inputs.x, self.inputs.graph)
        if "weak" in constants and "gate" not in self.stage.learns:
            constants["gate"] = model.confidence(constants["weak"], self.inputs.x.x)
        for split, kept in self._constants.items():
            for name, value in constants.items():
                kept[name] = value[self.task.index(split)]

    def _run(self, split: str, batch: Batch | None = None) -> StageOutput:
        if self.stage.predicts == "weak":
            return StageOutput(self._compute_logits("weak", split, batch), None, None)
        if self.stage.predicts == "strong":
            return StageOutput(None, self._compute_logits("strong", split, batch), None)
        weak = self._compute_logits("weak", split, batch)
        strong = self._compute_logits("strong", split, batch)
        return StageOutput(weak, strong, self._compute_confidence(weak, split, batch))

    def _compute_confidence(self, weak: Tensor, split: str, batch: Batch | None) -> Tensor:
        if "gate" in self._constants[split]:
            return self._select(self._constants[split]["gate"], batch)
        x = self.inputs.rows(split) if batch is None else batch.x
        return self.model.confidence(weak, x.x)

    def _compute_logits(self, name: str, split: str, batch: Batch | None) -> Tensor:
        if name in self._constants[split]:
            logits = self._select(self._constants[split][name], batch)
        elif split == "val":
            logits = self._predict_logits(name)
        else:
            with autocast(self.precision, self.task.data.x.device):
                logits = self._train_logits(name, batch)
            if self.precision != "32":
                logits = logits.float()
        self.outputs[f"the logits of the {name} expert"] = logits.detach()
        return logits

    def _predict_logits(self, name: str) -> Tensor:
        if self._expert_reads_graph(name):
            return self.model.logits(
                name, self.inputs.x, self.inputs.graph, nodes=self.task.index("val")
            )
        return self.model.logits(name, self.inputs.val_rows)

    def _train_logits(self, name: str, batch: Batch | None) -> Tensor:
        if not self._expert_reads_graph(name):
            return self.model.logits(name, self.inputs.train_rows if batch is None else batch.x)
        if batch is None:
            return self.model.logits(
                name, self.inputs.x, self.inputs.graph, nodes=self.task.index("train")
            )
        assert batch.graph_x is not None
        return self.model.logits(name, batch.graph_x, batch.graph)[batch.at]

    def _expert_reads_graph(self, name: str) -> bool:
        return reads_graph(getattr(self.model, name), self.inputs.graph)

    @staticmethod
    def _select(values: Tensor, batch: Batch | None) -> Tensor:
        return values if batch is None else values[batch.rows]
