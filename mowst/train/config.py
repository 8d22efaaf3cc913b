r"""The settings of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

METHODS = ("mowst", "mowst-star", "weak", "strong")
EXPERTS = ("weak", "strong")
MIXTURES = ("mowst", "mowst-star")
ONLY_IN = {
    "in_turns": (("mowst-star",), "it is a way to train 'mowst-star'"),
    "normalize_weights": (("mowst",), "only the strong turn of 'mowst' weighs its nodes"),
    "weight_floor": (("mowst",), "only the strong turn of 'mowst' weighs its nodes"),
    "calibrate": (MIXTURES, "a temperature changes no answer of an expert alone"),
    "gate_folds": (MIXTURES, "an expert alone has no confidence"),
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
        rounds: most rounds of one weak and one strong turn each.
        round_patience: rounds without a better validation score after which training ends; None never ends it early.
        pretrain: the experts trained on plain cross-entropy first: "none", "weak", "strong" or "both"; in a cascade
            the first expert, all others, or all.
        select: what picks the best state, in every turn and at the end: "loss", the negative log-likelihood of the
            model's answers on the validation nodes, or "metric", the task's metric there (ties: the loss).
        eval_every: epochs between two evaluations.
        in_turns: train mowst-star in weak and strong turns as mowst is, not jointly.
        normalize_weights: divide the loss of mowst's strong turn by the sum of its node weights 1 - C, not by the
            number of nodes.
        weight_floor: the least weight of a node in mowst's strong turn.
        calibrate: divide the logits of each expert that has a confidence, after its pretraining, by the temperature
            that fits them to the validation nodes (with gate_folds, to the predictions made out of fold).
        gate_folds: fit the confidence once, after pretraining, to predictions that experts make on training nodes
            which they were not trained on (so many folds, each with experts of its own), and to nothing else; None
            trains it in every weak turn on the predictions of the expert itself.
    """

    lr: float = 0.01
    weight_decay: float = 5e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    epochs: int = 500
    patience: int | None = 50
    rounds: int = 10
    round_patience: int | None = 2
    pretrain: Literal["none", "weak", "strong", "both"] = "both"
    select: Literal["loss", "metric"] = "loss"
    eval_every: int = 1
    in_turns: bool = False
    normalize_weights: bool = False
    weight_floor: float = 0.0
    calibrate: bool = False
    gate_folds: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adam", "adamw"),
            "pretrain": ("none", "weak", "strong", "both"),
            "select": ("loss", "metric"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "rounds", "eval_every", "patience", "round_patience"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value)):
                raise ValueError(f"{name} must be a whole number above zero, got {value!r}")
        if self.gate_folds is not None and (self.gate_folds < 2 or self.gate_folds != int(self.gate_folds)):
            raise ValueError(f"gate_folds must be a whole number of at least 2, got {self.gate_folds!r}")
        if not 0 <= self.weight_floor <= 1:
            raise ValueError(f"weight_floor must lie in [0, 1], got {self.weight_floor!r}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above zero, got {self.lr!r}")
        if not self.weight_decay >= 0:
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
    untrained = {"calibrate": ("weak", "both"), "gate_folds": ("both",)}
    for name, (methods, why) in ONLY_IN.items():
        if not getattr(config, name):
            continue
        if method not in methods:
            raise ValueError(f"{name} changes nothing in '{method}': {why}")
        if config.pretrain not in untrained.get(name, (config.pretrain,)):
            raise ValueError(f"{name} needs trained experts: pretrain must be one of {list(untrained[name])}")
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
