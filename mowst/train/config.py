r"""The settings of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Literal

METHODS = ("mowst", "mowst-star", "weak", "strong")
EXPERTS = ("weak", "strong")
MIXTURES = ("mowst", "mowst-star")
ONLY_IN = {
    "in_turns": (("mowst-star",), "it is a way to train 'mowst-star'"),
    "normalize_weights": (("mowst",), "only the strong turn of 'mowst' weighs its nodes"),
    "weight_floor": (("mowst",), "only the strong turn of 'mowst' weighs its nodes"),
    "calibrate": (MIXTURES, "a temperature changes no answer of an expert alone"),
}
ONLY_WITH = {
    "num_parts": ("random",),
    "batch_size": ("neighbor",),
    "num_neighbors": ("neighbor",),
    "batches_per_step": ("random", "neighbor"),
}


@dataclass(frozen=True)
class TrainConfig:
    r"""The settings of :func:`~mowst.train.fit`.

    Args:
        lr: learning rate.
        weight_decay: weight decay.
        optimizer: "adam" (weight decay is an L2 penalty) or "adamw" (it is decoupled).
        epochs: most epochs of one turn, of one pretraining, or of joint training.
        patience: epochs without a better validation score after which a turn ends; None never ends it early.
        rounds: most rounds of one weak and one strong turn each, or of joint training where the confidences are fitted
            to validation nodes; 0 ends after pretraining and the fit of the confidences.
        round_patience: rounds without a better validation score after which training ends; None never ends it early.
        pretrain: the experts trained on plain cross-entropy first: "none", "weak", "strong" or "both"; in a cascade
            the first expert, all others, or all.
        select: what picks the best state, in every turn and at the end: "calibrated", the negative log-likelihood of
            the model's answers on the validation nodes under the temperature that fits them best, so that a model that
            learns on and grows overconfident meanwhile is not taken for one that gets worse; "loss", the same as the
            model gives it; or "metric", the task's metric there (ties: the calibrated loss).
        eval_every: epochs between two evaluations.
        in_turns: train mowst-star in weak and strong turns as mowst is, not jointly.
        normalize_weights: divide the loss of mowst's strong turn by the sum of its node weights 1 - C, not by the
            number of nodes.
        weight_floor: the least weight of a node in mowst's strong turn.
        gate_fit: what the confidences are fitted to. "validation": to the validation nodes, with a temperature for each
            expert, after pretraining and after each turn; who answers and what is mixed is chosen there by
            cross-validated likelihood, see mowst.train.stack, and a turn is kept if that likelihood rises by more than
            one standard error. "train": they learn in every weak turn, from the weak expert's predictions on its own
            training nodes, as in the paper. "folds": they are fitted once, to predictions on training nodes by experts
            that were trained on the other folds.
        gate_folds: the number of folds, of validation nodes or of training nodes, in the first and the last of these.
        batches: what a step trains on: "full", all training nodes in the whole graph; "random", those of a part of a
            random partition of all nodes, in the graph that the part induces, as PyG's RandomNodeLoader draws them;
            "neighbor", batches of them in a graph of sampled neighbours, as PyG's NeighborLoader samples them. An epoch
            goes once through all, see mowst.train.batches; where no expert reads the graph, batches are plain rows.
            With normalize_weights each batch divides by the sum of its own weights.
        num_parts: the number of parts of "random", 4 by default.
        batch_size: the number of training nodes in a batch of "neighbor", 1024 by default.
        num_neighbors: the number of neighbours that "neighbor" samples for each node, hop by hop, -1 for all, by
            default 10 in each of two hops.
        batches_per_step: the batches whose gradients make one step, by default one for each process.
        precision: "32", or "bf16" for the experts' forward in training, by torch.autocast; losses, evaluation and
            selection stay in single precision.
        checkpoint_activations: compute each layer of our graph experts again in the backward pass and keep only what
            goes into it: less memory, more time.
        calibrate: with "train" or "folds", divide the logits of each expert that has a confidence, after its
            pretraining, by the temperature that fits them to the validation nodes, or to the predictions out of fold.
    """

    lr: float = 0.01
    weight_decay: float = 5e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    epochs: int = 500
    patience: int | None = 50
    rounds: int = 10
    round_patience: int | None = 2
    pretrain: Literal["none", "weak", "strong", "both"] = "both"
    select: Literal["calibrated", "loss", "metric"] = "calibrated"
    eval_every: int = 1
    in_turns: bool = False
    normalize_weights: bool = False
    weight_floor: float = 0.0
    gate_fit: Literal["validation", "train", "folds"] = "validation"
    gate_folds: int = 10
    calibrate: bool = False
    batches: Literal["full", "random", "neighbor"] = "full"
    num_parts: int | None = None
    batch_size: int | None = None
    num_neighbors: tuple[int, ...] | None = None
    batches_per_step: int | None = None
    precision: Literal["32", "bf16"] = "32"
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adam", "adamw"),
            "pretrain": ("none", "weak", "strong", "both"),
            "select": ("calibrated", "loss", "metric"),
            "gate_fit": ("validation", "train", "folds"),
            "batches": ("full", "random", "neighbor"),
            "precision": ("32", "bf16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}")
        least = {"epochs": 1, "rounds": 0, "eval_every": 1, "patience": 1, "round_patience": 1, "gate_folds": 2}
        for name, bound in (least | {"num_parts": 1, "batch_size": 1, "batches_per_step": 1}).items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and float(value) >= bound and float(value) % 1 == 0):
                raise ValueError(f"{name} must be a whole number of at least {bound}, got {value!r}")
        if self.calibrate and self.gate_fit == "validation":
            raise ValueError(
                "gate_fit='validation' fits temperatures by itself: calibrate goes with 'train' or 'folds'"
            )
        for name, kinds in ONLY_WITH.items():
            if getattr(self, name) is not None and self.batches not in kinds:
                raise ValueError(f"{name} changes nothing with batches={self.batches!r}, only with {list(kinds)}")
        if any(number < -1 or number == 0 for number in self.num_neighbors or ()):
            raise ValueError(f"num_neighbors must be numbers above zero, or -1 for all, got {self.num_neighbors!r}")
        if not (isinstance(self.weight_floor, Real) and 0 <= self.weight_floor <= 1):
            raise ValueError(f"weight_floor must lie in [0, 1], got {self.weight_floor!r}")
        if not (isinstance(self.lr, Real) and self.lr > 0):
            raise ValueError(f"lr must be above zero, got {self.lr!r}")
        if not (isinstance(self.weight_decay, Real) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")


def check_method(method: str, config: TrainConfig, experts: Sequence[str] = EXPERTS) -> str:
    r"""The method's name as files spell it; :obj:`"mowst*"` is accepted for :obj:`"mowst-star"`, and so is the name of
    an expert.

    Raises:
        ValueError: if the method is unknown, or a setting would change nothing in it.
    """
    method = "mowst-star" if method == "mowst*" else method
    if method not in (known := ("mowst", "mowst-star", *experts)):
        raise ValueError(f"unknown method '{method}', choose from {list(known)}")
    for name, (methods, why) in ONLY_IN.items():
        if getattr(config, name) and method not in methods:
            raise ValueError(f"{name} changes nothing in '{method}': {why}")
    if config.calibrate and config.pretrain not in (trained := ("weak", "both")):
        raise ValueError(f"calibrate needs trained experts: pretrain must be one of {list(trained)}")
    if config.gate_fit == "folds" and config.pretrain != "both" and method in MIXTURES:
        raise ValueError("gate_fit='folds' needs trained experts: pretrain must be 'both'")
    return method


def make_config(**settings: object) -> TrainConfig:
    r"""The configuration of these settings.

    Raises:
        ValueError: if a setting is unknown (the known ones are listed) or has an impossible value.
    """
    known = {field.name for field in fields(TrainConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ValueError(f"unknown training settings {unknown}, choose from {sorted(known)}")
    return TrainConfig(**settings)  # type: ignore[arg-type]
