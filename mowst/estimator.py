r"""A mixture as a scikit-learn estimator."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch_geometric import seed_everything
from torch_geometric.data import Data

from mowst.convert import repair
from mowst.nn.build import ModelConfig, build_model
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.fit import fit
from mowst.train.state import get_random_state, set_random_state

MODEL_SETTINGS = ("weak", "strong", "gate", "hidden_channels", "num_layers", "dropout")
TRAIN_SETTINGS = ("lr", "weight_decay", "epochs", "rounds")


class MowstClassifier(ClassifierMixin, BaseEstimator):
    r"""A :class:`~mowst.nn.mowst.Mowst` with the interface of scikit-learn, where one graph takes
    the place of :obj:`X` and :obj:`y`.

    .. code-block:: python

        classifier = MowstClassifier(strong="sage", random_state=0).fit(data)
        prob = classifier.predict_proba(data)  # [N, C], a NumPy array

    Settings are compared by :obj:`clone(classifier).set_params(...).fit(data).result_.val`. A graph
    is not a table of independent rows, so :class:`sklearn.model_selection.GridSearchCV` cannot
    split it.

    Args:
        weak, strong, gate (str, optional): The parts by name, see
            :class:`~mowst.nn.build.ModelConfig`.
        hidden_channels, num_layers, dropout (optional): The sizes of the parts.
        method (str, optional): The method of :func:`~mowst.train.fit`. (default: :obj:`"mowst"`)
        lr, weight_decay, epochs, rounds (optional): Settings of training, see
            :class:`~mowst.train.config.TrainConfig`.
        random_state (int, optional): The seed of :meth:`fit`, which then leaves the global random
            number generators as they were. They are used if :obj:`None`. (default: :obj:`None`)

    Attributes:
        model_ (Mowst): The trained model.
        result_ (FitResult): The result of training.
        classes_ (numpy.ndarray): The classes, 0 to :math:`C - 1`.
        n_features_in_ (int): The number of node features.
    """

    def __init__(
        self,
        *,
        weak: str = "mlp",
        strong: str = "gcn",
        gate: str = "monotone",
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        method: str = "mowst",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 500,
        rounds: int = 10,
        random_state: int | None = None,
    ) -> None:
        self.weak = weak
        self.strong = strong
        self.gate = gate
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.method = method
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, data: Data, y: Any = None) -> "MowstClassifier":
        r"""Builds a new model and trains it on the device of the graph.

        Args:
            data (torch_geometric.data.Data): A graph with :obj:`train_mask` and :obj:`val_mask`.
            y (optional): Ignored; the labels are those of the graph.
        """
        task = GraphTask.from_data(data)
        if task.multilabel:
            raise ValueError("several labels per node: use mowst.fit with Mowst(multilabel=True)")
        self.classes_ = np.arange(task.num_classes)
        self.n_features_in_ = task.num_features
        settings = self.get_params()
        config = TrainConfig(**{name: settings[name] for name in TRAIN_SETTINGS})
        before = get_random_state()
        try:
            if self.random_state is not None:
                seed_everything(self.random_state)
            self.model_ = build_model(
                ModelConfig(**{name: settings[name] for name in MODEL_SETTINGS}),
                in_channels=task.num_features,
                out_channels=task.num_classes,
                num_nodes=task.num_nodes,
            )
            device = task.data.x.device
            self.result_ = fit(self.model_, task, self.method, config, device=device)
        finally:
            if self.random_state is not None:
                set_random_state(before)
        return self

    def predict(self, data: Data) -> np.ndarray:
        r"""Returns the predicted classes of all nodes of a graph, of shape :math:`(N)`."""
        prob = self.predict_proba(data)
        return self.classes_[prob.argmax(axis=1)]

    def predict_proba(self, data: Data) -> np.ndarray:
        r"""Returns the class probabilities of all nodes of a graph, of shape :math:`(N, C)`."""
        check_is_fitted(self)
        return self.model_.predict_proba(repair(data)[0]).cpu().numpy()

    def score(self, data: Data, y: Any = None, sample_weight: Any = None) -> float:
        r"""Returns the accuracy on the test nodes of a graph.

        Args:
            data (torch_geometric.data.Data): A graph with all three masks.
            y, sample_weight (optional): Ignored.
        """
        prob = torch.from_numpy(self.predict_proba(data))
        return GraphTask.from_data(data).to("cpu").evaluate(prob, "test")
