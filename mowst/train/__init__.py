r"""Training: methods as stages, one loop that runs them, and the fit of the gate."""

from torch_geometric import seed_everything

from mowst.train.callbacks import ProgressBar, StopTraining
from mowst.train.config import Overrides, TrainConfig
from mowst.train.environment import environment
from mowst.train.evaluate import FitResult, score_model
from mowst.train.fit import fit
from mowst.train.gate_fit import GateFit, fit_gate
from mowst.train.loggers import CSV, MLflow, OptunaPruning, TensorBoard, WandB
from mowst.train.methods import METHODS, Method, MixtureMethod, register_method
from mowst.train.run_dir import RunDir
from mowst.train.stage import AcceptByGateFit, AcceptByScore, Stage, StageResult
from mowst.train.trainer import Trainer

__all__ = [
    "CSV",
    "METHODS",
    "AcceptByGateFit",
    "AcceptByScore",
    "FitResult",
    "GateFit",
    "MLflow",
    "Method",
    "MixtureMethod",
    "OptunaPruning",
    "Overrides",
    "ProgressBar",
    "RunDir",
    "Stage",
    "StageResult",
    "StopTraining",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "WandB",
    "environment",
    "fit",
    "fit_gate",
    "register_method",
    "score_model",
    "seed_everything",
]
