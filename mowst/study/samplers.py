r"""Samplers and pruners of sweeps by name."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Sampler = Literal["tpe", "nsga2", "random"]
Pruner = Literal["median", "halving", "none"]


def make_sampler(name: str, seed: int = 0) -> "BaseSampler":
    r"""Returns the sampler of a name.

    Raises:
        ValueError: If the name is unknown.
    """
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    known: dict[str, type[BaseSampler]] = {
        "tpe": TPESampler,
        "nsga2": NSGAIISampler,
        "random": RandomSampler,
    }
    if name not in known:
        raise ValueError(f"unknown sampler '{name}', choose from {', '.join(known)}")
    return known[name](seed=seed)  # type: ignore[call-arg]


def make_pruner(name: str) -> "BasePruner":
    r"""Returns the pruner of a name.

    Raises:
        ValueError: If the name is unknown.
    """
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if name == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=5)
    if name == "halving":
        return SuccessiveHalvingPruner()
    if name == "none":
        return NopPruner()
    raise ValueError(f"unknown pruner '{name}', choose from median, halving, none")
