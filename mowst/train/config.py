r"""The settings of a training run."""

from dataclasses import dataclass, fields
from typing import Literal

METHODS = ("mowst", "mowst-star", "weak", "strong")


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
        pretrain: the experts trained on plain cross-entropy first: "none", "weak", "strong" or "both".
        select: what picks the best state, in every turn and at the end: "loss", the negative log-likelihood of the
            model's answers on the validation nodes, or "metric", the task's metric there (ties: the loss).
        eval_every: epochs between two evaluations.
        in_turns: train mowst-star in weak and strong turns as mowst is, not jointly.
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
        if not self.lr > 0:
            raise ValueError(f"lr must be above zero, got {self.lr!r}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")


def check_method(method: str, config: TrainConfig) -> str:
    r"""The method's name as files spell it; :obj:`"mowst*"` is accepted for :obj:`"mowst-star"`.

    Raises:
        ValueError: if the method is unknown, or a setting would change nothing in it.
    """
    method = "mowst-star" if method == "mowst*" else method
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}', choose from {list(METHODS)}")
    if config.in_turns and method != "mowst-star":
        raise ValueError(f"in_turns=True is a way to train 'mowst-star'; it would change nothing in '{method}'")
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
