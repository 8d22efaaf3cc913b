r"""The training methods and their registered names."""

from mowst.train.methods.method import METHODS, Method, MixtureMethod
from mowst.train.methods.mowst import MowstMethod
from mowst.train.methods.mowst_star import MowstStarMethod
from mowst.train.methods.single import StrongMethod, WeakMethod

__all__ = [
    "METHODS",
    "Method",
    "MixtureMethod",
    "MowstMethod",
    "MowstStarMethod",
    "StrongMethod",
    "WeakMethod",
    "check_method",
    "find_method",
    "register_method",
]


def register_method(name: str, cls: type[Method]) -> None:
    r"""Registers a training method, so that :func:`~mowst.train.fit`, the command line, studies,
    sweeps and reports know its name. See :meth:`~mowst.nn.registry.Registry.register`.
    """
    METHODS.register(name, cls)


def check_method(name: str) -> str:
    r"""Returns the name of a method as files spell it: :obj:`"mowst*"` is :obj:`"mowst-star"`.

    Raises:
        ValueError: If the method is unknown.
    """
    name = "mowst-star" if name == "mowst*" else name
    METHODS.find(name)
    return name


def find_method(name: str) -> Method:
    r"""Returns a method by its registered name or import path.

    Raises:
        ValueError: If the method is unknown.
    """
    return METHODS.build(check_method(name))


register_method("mowst", MowstMethod)
register_method("mowst-star", MowstStarMethod)
register_method("weak", WeakMethod)
register_method("strong", StrongMethod)
