r"""Publishers' pickles, read as data. What a pickle names is answered by stand-ins that take nothing but numbers and
text from it, so that it can neither call anything, nor change a class of this process, nor make an array that points
outside of its memory.
"""

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from mowst.io import parsing

KINDS = "biufcSUO"


def safe_unpickle(path: str | Path) -> Any:
    r"""Reads a pickle, also of Python 2, of a SciPy CSR matrix, or of NumPy arrays in built-in containers.

    Everything else that a pickle can name is refused before it is imported or called.

    Raises:
        ValueError: If the file is no readable pickle, or names anything else.
    """
    with open(path, "rb") as file, parsing(path, "pickle of NumPy arrays, containers or a SciPy CSR matrix"):
        value = _Unpickler(file, encoding="latin1").load()
        if file.read(1):
            raise ValueError("it goes on behind its end")
        return value.csr if isinstance(value, _Matrix) else value


def load_dicts(path: str | Path) -> list[dict[str, Any]]:
    r"""Reads a NumPy array (.npy) of dictionaries, which are pickled there, under the rules of :func:`safe_unpickle`.

    Raises:
        ValueError: If the file is no such array, or names anything else.
    """
    with open(path, "rb") as file, parsing(path, "NumPy array (.npy) of dictionaries"):
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        values = list(np.atleast_1d(_Unpickler(file, encoding="latin1").load()))
        if wrong := [value for value in values if not isinstance(value, dict)]:
            raise ValueError(f"it holds {type(wrong[0]).__name__}")
    return values


class _Dtype:
    r"""Of the state of a type only the byte order counts: its fields and flags could make numbers pass for objects."""

    def __init__(self, name: str, *_: Any) -> None:
        self.numpy = np.dtype(name)
        if self.numpy.kind not in KINDS:
            raise ValueError(f"it holds values of the type '{name}'")

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


class _Array(np.ndarray):
    r"""An array whose type is plain."""

    def __new__(cls, *_: Any) -> "_Array":
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple) -> None:
        *head, dtype, is_fortran, content = state
        super().__setstate__((*head, dtype.numpy, is_fortran, content))


class _Matrix:
    r"""A matrix built anew of its parts, copied: indices out of range make SciPy write outside of its arrays."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = (state["data"], state["indices"], state["indptr"])
        self.csr = csr_matrix(parts, shape=tuple(state["_shape"]), copy=True)
        self.csr.check_format(full_check=True)


# A pickle may set the attributes of what it names. It cannot set those of built-in types, nor of a class with a
# __setstate__, and it must not get hold of any other class or of a function.
_STAND_INS = {
    **dict.fromkeys([(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")], _Array),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **dict.fromkeys([(f"scipy.sparse.{module}", "csr_matrix") for module in ("csr", "_csr")], _Matrix),
    ("collections", "defaultdict"): defaultdict,
    **{(module, kind.__name__): kind for module in ("__builtin__", "builtins") for kind in (list, dict, tuple, set)},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"it asks for '{module}.{name}', which is refused")
        return _STAND_INS[module, name]
