r"""Search spaces by name. A space is a function that requests values of an Optuna trial by the name
of a setting: :obj:`"lr"`, or with a dot, an override such as :obj:`"weak.lr"`, or an entry of a
dictionary such as :obj:`"strong_args.norm"`.

.. code-block:: python

    def my_space(trial, method, strong):
        trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        if method == "mowst":
            trial.suggest_categorical("gate_args.hidden_channels", [16, 64])
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mowst.nn.build import ModelConfig, build_expert
from mowst.nn.registry import constructor_args
from mowst.train.config import OVERRIDES, TrainConfig, flatten_config
from mowst.train.methods import find_method

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Space = Callable[["BaseTrial", str, str], None]
GATE_WIDTHS = (16, 32, 64, 128, 256, 512)


def paper_space(trial: "BaseTrial", method: str, strong: str) -> None:
    r"""The space of the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper: the learning rates and dropout probabilities of the
    grid in its code; the widths in its code and published settings; for a mixture, the input of the
    gate and the pretrained experts.
    """
    trial.suggest_categorical("lr", [0.1, 0.01, 0.001])
    trial.suggest_categorical("dropout", [0.1, 0.2, 0.3, 0.4, 0.5])
    heads = find_expert_args(strong).get("heads", 1)
    widths = [w for w in (4, 8, 12, 32, 64, 128, 256, 512) if w % heads == 0]
    trial.suggest_categorical("hidden_channels", widths)
    if find_method(method).has_gate:
        trial.suggest_categorical("gate", ["learned"])
        trial.suggest_categorical("gate_fit", ["train"])
        trial.suggest_categorical("mix", ["logit" if method == "mowst-star" else "prob"])
        trial.suggest_categorical("gate_features", [False, True])
        trial.suggest_categorical("pretrain", ["none", "weak", "strong", "both"])


def default_space(trial: "BaseTrial", method: str, strong: str) -> None:
    r"""A wider space that also has optimizer, weight decay, depth, normalization and skips and, for
    a mixture, the learning rate and weight decay of the weak expert, pretraining and the gate.
    Settings that have no effect in a method are not searched.
    """
    chosen = find_method(method)
    args = find_expert_args(strong) if "strong" in chosen.experts else {}
    trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    trial.suggest_categorical("weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_categorical("optimizer", ["adam", "adamw"])
    trial.suggest_float("dropout", 0.0, 0.8, step=0.1)
    trial.suggest_categorical("hidden_channels", [32, 64, 128, 256, 512])
    # Experts with a linear head behind their layers are published with up to 15 of them.
    trial.suggest_int("num_layers", 1, 15 if args.get("jk") == "last" else 5)
    if args.keys() >= {"norm", "skip"}:
        trial.suggest_categorical("strong_args.norm", [None, "layer_norm", "batch_norm"])
        trial.suggest_categorical("strong_args.skip", [False, True])
    if not chosen.has_gate:
        return
    trial.suggest_float("weak.lr", 1e-3, 1e-1, log=True)
    trial.suggest_categorical("weak.weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_categorical("pretrain", ["none", "weak", "strong", "both"])
    # A gate that is fitted to the few validation nodes stays the default one, of two parameters.
    if trial.suggest_categorical("gate_fit", ["validation", "train"]) == "train":
        trial.suggest_categorical("mix", ["prob", "logit"])
        if trial.suggest_categorical("gate", ["learned", "monotone"]) == "learned":
            trial.suggest_categorical("gate_features", [False, True])
            trial.suggest_categorical("gate_args.hidden_channels", GATE_WIDTHS)


SPACES: dict[str, Space] = {"default": default_space, "paper": paper_space}


def find_space(name: str) -> Space:
    r"""Returns a space by its name or import path.

    Raises:
        ValueError: If the space is unknown.
    """
    if name in SPACES:
        return SPACES[name]
    module, _, function = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), function)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(
            f"unknown space '{name}', choose from {list(SPACES)}, or an import path"
        ) from error


def find_expert_args(name: str) -> dict[str, Any]:
    r"""Returns the constructor arguments of a registered expert with their defaults, and nothing
    for an import path.
    """
    if "." in name:
        return {}
    return constructor_args(build_expert(name, in_channels=2, out_channels=2, num_nodes=2))


def fix_values(space: Space, values: Mapping[str, Any]) -> Space:
    r"""Returns a space that does not search the given values. They hold as they are, even if they
    are not among the choices of the space.
    """

    def fixed(trial: "BaseTrial", method: str, strong: str) -> None:
        space(_FixedValues(trial, values), method, strong)  # type: ignore[arg-type]

    return fixed


class _FixedValues:
    def __init__(self, trial: "BaseTrial", values: Mapping[str, Any]) -> None:
        self._trial = trial
        self._values = values

    def __getattr__(self, attribute: str) -> Any:
        method = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return method

        def suggest(name: str, *args: Any, **kwargs: Any) -> Any:
            return self._values[name] if name in self._values else method(name, *args, **kwargs)

        return suggest


def flatten_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Returns settings by the names that they have in a space."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            values[name] = value
    return values


def nest_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    r"""The inverse of :func:`flatten_settings`."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot and name not in OVERRIDES:
            settings.setdefault(outer, {})[inner] = value
        else:
            settings[name] = value
    return settings


def find_point(
    settings: Mapping[str, Any], space: Space, method: str, strong: str
) -> dict[str, Any] | None:
    r"""Returns settings of a row, completed by the defaults, as a point of a space, or :obj:`None`
    if they lie outside.
    """
    from optuna.trial import FixedTrial, create_trial

    values = {**asdict(ModelConfig()), **flatten_config(TrainConfig())}
    args = find_expert_args(strong)
    values.update({f"strong_args.{key}": args.get(key) for key in ("norm", "skip")})
    values.update(flatten_settings(settings))
    for name in ("lr", "weight_decay"):
        values.setdefault(f"weak.{name}", values[name])
    # By default a gate is as wide as the experts.
    width = min(GATE_WIDTHS, key=lambda choice: abs(choice - values["hidden_channels"]))
    values.setdefault("gate_args.hidden_channels", width)
    trial = FixedTrial(values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # create_trial raises an error for values outside
            space(trial, method, strong)
            create_trial(value=0.0, params=trial.params, distributions=trial.distributions)
    except ValueError:
        return None
    return trial.params
