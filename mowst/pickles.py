r"""Safe reading of the pickles that publishers ship.

Stand-ins replace the classes that a pickle names. They take only numbers and text from it, so a
pickle can neither call anything, nor change a class of this process, nor create an array that
points outside of its memory.
"""

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mowst.io import parsing

KINDS = "biufcSUO"


def safe_unpickle(path: str | Path) -> Any:
    r"""Reads a pickle of a SciPy CSR matrix, or of NumPy arrays in built-in containers. Pickles of
    Python 2 are supported. Any other name raises an error before it is imported or called.
    """
    kind = "pickle of NumPy arrays, containers or a SciPy CSR matrix"
    with open(path, "rb") as file, parsing(path, kind):
        value = _Unpickler(file, encoding="latin1").load()
        if file.read(1):
            raise ValueError("there are bytes after its end")
        return value.csr if isinstance(value, _Matrix) else value


def load_dicts(path: str | Path) -> list[dict[str, Any]]:
    r"""Reads a NumPy array (.npy) of pickled dictionaries, as safely as :func:`safe_unpickle`."""
    with open(path, "rb") as file, parsing(path, "NumPy array (.npy) of dictionaries"):
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        values = list(np.atleast_1d(_Unpickler(file, encoding="latin1").load()))
        for value in values:
            if not isinstance(value, dict):
                raise ValueError(f"it holds {type(value).__name__}")
    return values


class _Dtype:
    r"""A type by its name and byte order. Its fields and flags could turn numbers into objects."""

    def __init__(self, name: str, *_: Any) -> None:
        self.numpy = np.dtype(name)
        if self.numpy.kind not in KINDS:
            raise ValueError(f"it holds values of the type '{name}'")

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


class _Array(np.ndarray):
    r"""An array of a plain type."""

    def __new__(cls, *_: Any) -> "_Array":
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple) -> None:
        *head, dtype, is_fortran, content = state
        super().__setstate__((*head, dtype.numpy, is_fortran, content))


class _Matrix:
    r"""A matrix from copied and checked parts. Wrong indices make SciPy write out of its arrays."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        from scipy.sparse import csr_matrix

        parts = (state["data"], state["indices"], state["indptr"])
        self.csr = csr_matrix(parts, shape=tuple(state["_shape"]), copy=True)
        self.csr.check_format(full_check=True)


# A pickle may set the attributes of what it names. It cannot set those of built-in types, nor of a
# class with a __setstate__. No other class and no function may be listed here.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("scipy.sparse.csr", "csr_matrix"): _Matrix,
    ("scipy.sparse._csr", "csr_matrix"): _Matrix,
    ("collections", "defaultdict"): defaultdict,
}
for _type in (list, dict, tuple, set):
    _STAND_INS["__builtin__", _type.__name__] = _type
    _STAND_INS["builtins", _type.__name__] = _type


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"it asks for '{module}.{name}', which is refused")
        return _STAND_INS[module, name]
