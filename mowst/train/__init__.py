r"""Training: pretraining, alternating turns, joint training, selection of the best state."""

from mowst.train.callbacks import ProgressBar
from mowst.train.config import METHODS, TrainConfig
from mowst.train.fit import fit
from mowst.train.run_folder import RunFolder, environment
from mowst.train.scores import FitResult, score_model
from mowst.train.stacking import stack

__all__ = [
    "METHODS",
    "FitResult",
    "ProgressBar",
    "RunFolder",
    "TrainConfig",
    "environment",
    "fit",
    "score_model",
    "stack",
]
