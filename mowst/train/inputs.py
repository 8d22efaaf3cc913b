r"""The features and the graph of a task in the form that models run fastest on."""

from functools import cached_property

from mowst.nn.mowst import Mowst
from mowst.nn.signature import make_graph
from mowst.sparse.features import Features
from mowst.task import GraphTask


class TaskInputs:
    r"""The inputs of a task, made once for a call such as :func:`~mowst.train.fit` and dropped with
    it. The tensors of the task must not change in between.

    Args:
        model (Mowst): The model, whose experts name the tensors that they read.
        task (GraphTask): The task.

    Attributes:
        x (Features): The node features.
        graph (Graph): The edges, and the tensors that the experts read.
    """

    def __init__(self, model: Mowst, task: GraphTask) -> None:
        self.model = model
        self.task = task
        self.x = Features(task.data.x)
        self.graph = make_graph(model, task.data)

    @cached_property
    def visible(self) -> "TaskInputs":
        r"""The inputs of what training may see of the task, see
        :attr:`~mowst.task.GraphTask.visible`.
        """
        visible = self.task.visible
        return self if visible is self.task else TaskInputs(self.model, visible)

    @cached_property
    def train_rows(self) -> Features:
        r"""The features of the training nodes."""
        return self.x.rows(self.task.index("train"))

    @cached_property
    def val_rows(self) -> Features:
        r"""The features of the validation nodes."""
        return self.x.rows(self.task.index("val"))

    def rows(self, split: str) -> Features:
        r"""The features of the :obj:`"train"` or :obj:`"val"` nodes."""
        return self.train_rows if split == "train" else self.val_rows
