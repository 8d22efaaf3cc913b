r"""The settings of a training run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    OptimizerChoice = Literal["adam", "adamw"] | OptimizerFactory
    Scheduler = torch.optim.lr_scheduler.LRScheduler
    SchedulerFactory = Callable[[torch.optim.Optimizer], Scheduler]
else:  # the command line and files take names only
    OptimizerChoice = Literal["adam", "adamw"]
    SchedulerFactory = Callable

CHOICES = {
    "optimizer": ("adam", "adamw"),
    "pretrain": ("none", "weak", "strong", "both"),
    "select": ("calibrated", "loss", "metric"),
    "gate_fit": ("validation", "train"),
    "batches": ("full", "random", "neighbor"),
    "precision": ("32", "bf16"),
}
LEAST = {
    "epochs": 1,
    "rounds": 0,
    "eval_every": 1,
    "patience": 1,
    "round_patience": 1,
    "gate_folds": 2,
    "num_parts": 1,
    "batch_size": 1,
    "batches_per_step": 1,
}
ONLY_WITH_BATCHES = {
    "num_parts": ("random",),
    "batch_size": ("neighbor",),
    "num_neighbors": ("neighbor",),
    "batches_per_step": ("random", "neighbor"),
}
OPTIONAL = ("patience", "round_patience", *ONLY_WITH_BATCHES)
SCOPES = ("weak", "strong", "pretraining")
PYTHON_ONLY = ("scheduler",)  # files and the command line do not have these


@dataclass(frozen=True)
class Overrides:
    r"""Settings of one expert, or of pretraining, that replace those of :class:`TrainConfig`. A
    setting that is :obj:`None` is not replaced.

    Args:
        lr: Learning rate.
        weight_decay: Weight decay.
        epochs: Maximum number of epochs of one stage.
        patience: Epochs without improvement after which a stage ends; a value of at least epochs
            never ends it early.
        optimizer: "adam", "adamw", or in Python a factory.
        dropout: Dropout probability, set in all dropout modules of the part while it learns.
        scheduler: A factory, in Python only.
    """

    lr: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None
    patience: int | None = None
    optimizer: OptimizerChoice | None = None
    dropout: float | None = None
    scheduler: SchedulerFactory | None = None

    def __post_init__(self) -> None:
        _check_values(asdict(self))


@dataclass(frozen=True)
class TrainConfig:
    r"""The settings of :func:`~mowst.train.fit`.

    Args:
        lr: Learning rate.
        weight_decay: Weight decay.
        optimizer: "adam" (weight decay is an L2 penalty) or "adamw" (weight decay is decoupled). In
            Python also a factory that takes the parameter groups, which hold lr and weight_decay,
            and returns an optimizer, such as functools.partial(torch.optim.SGD, momentum=0.9).
        scheduler: In Python, a factory that takes the optimizer and returns its learning rate
            schedule, such as lambda optimizer: CosineAnnealingLR(optimizer, 100), which is stepped
            after each epoch. ReduceLROnPlateau is stepped after each evaluation, with the
            validation loss if its mode is "min", and with the validation metric if it is "max". A
            stage that is rolled back also returns the schedule to where it was. None keeps the
            learning rate.
        epochs: Maximum number of epochs of one stage.
        patience: Epochs without improvement of the validation score after which a stage ends; None
            never ends it early.
        rounds: Maximum number of rounds; 0 ends after pretraining and the fit of the gate. In each
            round, mowst trains the weak and then the strong expert, and mowst-star trains both
            together.
        round_patience: How often a part of the model is trained in rounds before another part has
            been accepted: with 1, never twice next to the same others. Training ends where this
            leaves no part to train. None trains every part in every round.
        pretrain: The experts that are first trained on cross-entropy alone: "none", "weak",
            "strong" or "both".
        select: The validation score that selects the best epoch of a stage and, with
            gate_fit="train", the best stage: "calibrated", the negative log-likelihood under the
            temperature that fits best, so that growing overconfidence does not count as getting
            worse; "loss", the negative log-likelihood; or "metric", the metric of the task, with
            ties broken by the calibrated loss.
        eval_every: Number of epochs between two evaluations.
        gate_fit: How the gate is fitted. "validation" fits it to the validation nodes, together
            with one temperature per expert, after pretraining and after each stage of a round;
            cross-validated likelihood chooses what is mixed and whether one expert predicts alone,
            and a stage is accepted if that likelihood rises by more than one standard error.
            "train" trains the gate together with the weak expert on the training nodes, as in the
            paper.
        gate_folds: Number of folds of the validation nodes in "validation".
        batches: What one step trains on: "full", all training nodes in the whole graph; "random",
            the training nodes in one part of a random partition of all nodes; "neighbor", a batch
            of training nodes in a graph of sampled neighbors. See mowst.train.batches.
        num_parts: Number of parts of "random"; 4 if None.
        batch_size: Number of training nodes in a batch of "neighbor"; 1024 if None.
        num_neighbors: Number of sampled neighbors per hop of "neighbor", -1 for all; 10 in each of
            two hops if None.
        batches_per_step: Number of batches whose gradients make one step; one per process if None.
        precision: "32", or "bf16" for the forward pass of the experts in training.
        checkpoint_activations: Whether the graph experts of this package compute their layers again
            in the backward pass, which takes less memory and more time.
        weak: Settings of the weak expert that replace those above.
        strong: Settings of the strong expert that replace those above.
        pretraining: Settings of pretraining that replace those above; those of an expert take
            precedence.

    Raises:
        ValueError: If a setting has an impossible value, or has no effect.
    """

    lr: float = 0.01
    weight_decay: float = 5e-4
    optimizer: OptimizerChoice = "adam"
    scheduler: SchedulerFactory | None = None
    epochs: int = 500
    patience: int | None = 50
    rounds: int = 10
    round_patience: int | None = 1
    pretrain: Literal["none", "weak", "strong", "both"] = "both"
    select: Literal["calibrated", "loss", "metric"] = "calibrated"
    eval_every: int = 1
    gate_fit: Literal["validation", "train"] = "validation"
    gate_folds: int = 5
    batches: Literal["full", "random", "neighbor"] = "full"
    num_parts: int | None = None
    batch_size: int | None = None
    num_neighbors: tuple[int, ...] | None = None
    batches_per_step: int | None = None
    precision: Literal["32", "bf16"] = "32"
    checkpoint_activations: bool = False
    weak: Overrides | Mapping[str, Any] = field(default_factory=Overrides)
    strong: Overrides | Mapping[str, Any] = field(default_factory=Overrides)
    pretraining: Overrides | Mapping[str, Any] = field(default_factory=Overrides)

    def __post_init__(self) -> None:
        for scope in SCOPES:
            object.__setattr__(self, scope, _make_overrides(scope, getattr(self, scope)))
        for name in SETTINGS:
            if getattr(self, name) is None and name not in OPTIONAL:
                raise ValueError(f"{name} must not be None")
        _check_values({name: getattr(self, name) for name in (*SETTINGS, *PYTHON_ONLY)})
        for name, kinds in ONLY_WITH_BATCHES.items():
            if getattr(self, name) is not None and self.batches not in kinds:
                raise ValueError(
                    f"{name} has no effect with batches={self.batches!r}, only with {list(kinds)}"
                )
        for number in self.num_neighbors or ():
            if number < -1 or number == 0:
                raise ValueError(
                    f"num_neighbors must be positive, or -1 for all, got {self.num_neighbors!r}"
                )

    def merge_overrides(self, part: str, pretraining: bool = False) -> "StageSettings":
        r"""Returns the settings of one part of the model in one phase.

        Args:
            part (str): :obj:`"weak"` or :obj:`"strong"`; any other part has no overrides of its
                own.
            pretraining (bool, optional): Whether the phase is pretraining. (default: :obj:`False`)
        """
        names = [entry.name for entry in fields(Overrides)]
        settings: dict[str, Any] = {name: getattr(self, name, None) for name in names}
        scopes = []
        if pretraining:
            scopes.append(self.pretraining)
        if part in ("weak", "strong"):
            scopes.append(getattr(self, part))
        for scope in scopes:
            for name in names:
                value = getattr(scope, name)
                if value is not None:
                    settings[name] = value
        return StageSettings(**settings)


@dataclass(frozen=True)
class StageSettings:
    r"""The settings of one part of the model in one stage, see
    :meth:`TrainConfig.merge_overrides`.
    """

    lr: float
    weight_decay: float
    epochs: int
    patience: int | None
    optimizer: "OptimizerChoice"
    dropout: float | None
    scheduler: "SchedulerFactory | None"


SETTINGS = [
    entry.name for entry in fields(TrainConfig) if entry.name not in (*SCOPES, *PYTHON_ONLY)
]
OVERRIDES = [
    f"{scope}.{entry.name}"
    for scope in SCOPES
    for entry in fields(Overrides)
    if entry.name not in PYTHON_ONLY
]
TRAIN_SETTINGS = [*SETTINGS, *OVERRIDES]


def make_config(**settings: Any) -> TrainConfig:
    r"""Builds the configuration from settings by name, where an override is spelled with a dot,
    such as :obj:`{"weak.lr": 0.03}`.

    Raises:
        ValueError: If a setting is unknown or has an impossible value.
    """
    known = [*TRAIN_SETTINGS, *SCOPES, *PYTHON_ONLY]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"unknown training settings {unknown}, choose from {sorted(known)}")
    given: dict[str, Any] = {}
    for name, value in settings.items():
        if name in SCOPES:
            given[name] = _make_overrides(name, value)
        elif "." not in name:
            given[name] = value
    # Overrides with a dot come last, since they refine a dictionary of the same scope.
    for name, value in settings.items():
        scope, dot, inner = name.partition(".")
        if dot:
            given[scope] = replace(_make_overrides(scope, given.get(scope)), **{inner: value})
    return TrainConfig(**given)


def flatten_config(config: TrainConfig) -> dict[str, Any]:
    r"""Returns all settings by name and the given overrides with a dot: the input of
    :func:`make_config`. Of a factory, it returns the import path only.
    """
    flat = {name: getattr(config, name) for name in SETTINGS}
    for name in PYTHON_ONLY:
        if getattr(config, name) is not None:
            flat[name] = getattr(config, name)
    for scope in SCOPES:
        for name, value in asdict(getattr(config, scope)).items():
            if value is not None:
                flat[f"{scope}.{name}"] = value
    for name, value in flat.items():
        if callable(value):
            made_by = getattr(value, "func", value)  # of a functools.partial
            if not hasattr(made_by, "__qualname__"):
                made_by = type(made_by)
            flat[name] = f"{made_by.__module__}.{made_by.__qualname__}"
    return flat


def _make_overrides(scope: str, given: Any) -> Overrides:
    if given is None:
        return Overrides()
    if isinstance(given, Overrides):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"{scope} must be a dictionary of settings, got {given!r}")
    known = [entry.name for entry in fields(Overrides)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"unknown settings {unknown} of {scope}, choose from {known}")
    return Overrides(**given)


def _check_values(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if value is None:
            continue
        if name in ("optimizer", "scheduler") and callable(value):
            continue
        if name == "scheduler":
            example = "lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)"
            raise ValueError(f"scheduler must be a factory, such as {example}, got {value!r}")
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {list(CHOICES[name])}, got {value!r}")
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if name in LEAST and not (is_number and value >= LEAST[name] and float(value) % 1 == 0):
            raise ValueError(
                f"{name} must be a whole number of at least {LEAST[name]}, got {value!r}"
            )
        if name == "lr" and not (is_number and value > 0):
            raise ValueError(f"lr must be above zero, got {value!r}")
        if name == "weight_decay" and not (is_number and value >= 0):
            raise ValueError(f"weight_decay must not be negative, got {value!r}")
        if name == "dropout" and not (is_number and 0 <= value <= 1):
            raise ValueError(f"dropout must lie in [0, 1], got {value!r}")
