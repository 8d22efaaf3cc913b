r"""Search spaces by name. A space is a function that asks a trial for values; what a value sets is its name:
:obj:`"lr"`, or with a dot an entry of a setting that is a dictionary, as in :obj:`"strong_args.norm"`.

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
from typing import Any

from optuna.trial import BaseTrial, FixedTrial, create_trial

from mowst.nn.build import ModelConfig
from mowst.train import TrainConfig

Space = Callable[[BaseTrial, str, str], None]
PLAIN = ("gcn", "sage", "gin", "gat", "tuned-gcn", "tuned-sage", "tuned-gat")
GATE_WIDTHS = (16, 32, 64, 128, 256, 512)


def paper_space(trial: BaseTrial, method: str, strong: str) -> None:
    r"""What was searched for the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_
    paper: the learning rates and dropout probabilities of its code, there a grid; the widths of its code and of its
    published settings; for a mixture, what the gate reads and which experts are pretrained.
    """
    trial.suggest_categorical("lr", [0.1, 0.01, 0.001])
    trial.suggest_categorical("dropout", [0.1, 0.2, 0.3, 0.4, 0.5])
    widths = [4, 8, 12, 32, 64, 128, 256, 512]
    # Of this GAT's heads there are 8.
    trial.suggest_categorical("hidden_channels", [w for w in widths if strong != "gat" or w % 8 == 0])
    if method.startswith("mowst"):
        trial.suggest_categorical("confidence", ["learned"])
        trial.suggest_categorical("gate_fit", ["train"])
        trial.suggest_categorical("mix", ["prob" if method == "mowst" else "logit"])
        trial.suggest_categorical("gate_features", [False, True])
        trial.suggest_categorical("pretrain", ["none", "weak", "strong", "both"])


def default_space(trial: BaseTrial, method: str, strong: str) -> None:
    r"""Wider: also optimizer, weight decay, depth, normalization and skips, and the mixture's own settings; nothing
    that would change nothing in the method.
    """
    deep = strong.startswith("tuned-") and method != "weak"
    trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    trial.suggest_categorical("weight_decay", [0.0, 5e-5, 5e-4, 1e-3, 5e-3])
    trial.suggest_categorical("optimizer", ["adam", "adamw"])
    trial.suggest_float("dropout", 0.0, 0.8, step=0.1)
    trial.suggest_categorical("hidden_channels", [32, 64, 128, 256, 512])
    trial.suggest_int("num_layers", 1, 15 if deep else 5)
    if method != "weak" and strong in PLAIN:
        trial.suggest_categorical("strong_args.norm", [None, "layer_norm", "batch_norm"])
        trial.suggest_categorical("strong_args.skip", [False, True])
    if not method.startswith("mowst"):
        return
    trial.suggest_categorical("pretrain", ["none", "weak", "strong", "both"])
    # Fitted to few nodes after each turn, the gate stays the default one, of two parameters.
    if trial.suggest_categorical("gate_fit", ["validation", "train"]) == "train":
        trial.suggest_categorical("mix", ["prob", "logit"])
        if trial.suggest_categorical("confidence", ["learned", "monotone"]) == "learned":
            trial.suggest_categorical("gate_features", [False, True])
            trial.suggest_categorical("gate_args.hidden_channels", GATE_WIDTHS)
    if method == "mowst":
        trial.suggest_categorical("normalize_weights", [False, True])
        trial.suggest_categorical("weight_floor", [0.0, 0.1, 0.3])
    else:
        trial.suggest_categorical("in_turns", [False, True])


SPACES: dict[str, Space] = {"default": default_space, "paper": paper_space}


def find_space(name: str) -> Space:
    r"""The space of a name, or of an import path.

    Raises:
        ValueError: if there is none.
    """
    if name in SPACES:
        return SPACES[name]
    module, _, function = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), function)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"unknown space '{name}', choose from {list(SPACES)}, or an import path") from error


def holding(space: Space, values: Mapping[str, Any]) -> Space:
    r"""A space that asks for everything but these values, which hold also where they are none of its choices."""
    return lambda trial, method, strong: space(_Holding(trial, values), method, strong)  # type: ignore[arg-type]


class _Holding:
    def __init__(self, trial: BaseTrial, values: Mapping[str, Any]) -> None:
        self._trial, self._values = trial, values

    def __getattr__(self, attribute: str) -> Any:
        asked = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return asked
        return lambda name, *args, **kw: self._values[name] if name in self._values else asked(name, *args, **kw)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Settings by the names that a space gives them."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    r"""The inverse of :func:`flat`."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            settings.setdefault(outer, {})[inner] = value
        else:
            settings[name] = value
    return settings


def point_of(settings: Mapping[str, Any], space: Space, method: str, strong: str) -> dict[str, Any] | None:
    r"""Settings as a point of a space, the package's defaults where they say nothing; :obj:`None` if they lie outside.

    Args:
        settings (dict): fields of :class:`~mowst.nn.build.ModelConfig` and :class:`~mowst.train.TrainConfig`.
        space (callable): the space.
        method (str): the method.
        strong (str): the strong expert.
    """
    values = asdict(ModelConfig()) | asdict(TrainConfig())
    values |= {"strong_args.norm": "layer_norm" if strong.startswith("tuned-") else None, "strong_args.skip": False}
    values |= flat(settings)
    # A gate is as wide as the experts where nothing is said of it.
    width = min(GATE_WIDTHS, key=lambda choice: abs(choice - values["hidden_channels"]))
    trial = FixedTrial({"gate_args.hidden_channels": width} | values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what lies outside is told by the error of create_trial
            space(trial, method, strong)
            create_trial(value=0.0, params=trial.params, distributions=trial.distributions)
    except ValueError:
        return None
    return trial.params
