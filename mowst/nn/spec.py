"""Names for modules: built from a name, described as JSON, rebuilt from that description."""

import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any, ClassVar

from torch.nn import Module

Spec = dict[str, Any]


class Registry:
    """Module classes of one kind under the names that users type. A dotted name is the import path of any class.

    Args:
        kind (str): What the classes are, for messages and specs, such as "expert".
    """

    kinds: ClassVar[dict[str, "Registry"]] = {}

    def __init__(self, kind: str):
        self.kind = kind
        self._classes: dict[str, type[Module]] = {}
        self.kinds[kind] = self

    def register(self, name: str) -> Callable[[type[Module]], type[Module]]:
        """Class decorator that enters a class under `name`."""

        def enter(cls: type[Module]) -> type[Module]:
            self._classes[name] = cls
            return cls

        return enter

    def names(self) -> list[str]:
        """The registered names."""
        return list(self._classes)

    def find(self, name: str) -> type[Module]:
        """The class under `name`.

        Raises:
            ValueError: If the name is unknown, or its import path leads nowhere.
        """
        if "." in name:
            return _import_class(name)
        if name not in self._classes:
            raise ValueError(
                f"unknown {self.kind} {name!r}: choose one of {', '.join(self.names())}, or an import path"
            )
        return self._classes[name]

    def build(self, name: str, **kwargs: Any) -> Module:
        """The module `name` with these constructor keywords; it remembers its spec."""
        module = self.find(name)(**kwargs)
        if "." in name:
            module._built_from = {"kind": self.kind, "name": name, "args": kwargs}  # type: ignore[assignment]
        return module

    def name_of(self, module: Module) -> str | None:
        """The name under which exactly this module's class is registered."""
        return next((name for name, cls in self._classes.items() if cls is type(module)), None)


def constructor_args(module: Module) -> dict[str, Any]:
    """The arguments that would construct `module` anew: its method of this name, else the equally named attributes."""
    if callable(own := getattr(module, "constructor_args", None)):
        return own()
    return {name: getattr(module, name) for name in inspect.signature(type(module)).parameters}


def spec_of(module: Module) -> Spec | None:
    """The JSON-able `{"kind", "name", "args"}` of a module that a :class:`Registry` knows or built; None for others."""
    if (spec := getattr(module, "_built_from", None)) is None:
        for registry in Registry.kinds.values():
            if (name := registry.name_of(module)) is not None:
                spec = {"kind": registry.kind, "name": name, "args": constructor_args(module)}
    return spec if spec is not None and _is_json(spec) else None


def rebuild(spec: Spec, trust: bool = False) -> Module:
    """The freshly initialised module that `spec` describes.

    Args:
        spec (dict): An answer of :func:`spec_of`, possibly read from a file.
        trust (bool): Whether import paths may be followed: importing runs code. (default: :obj:`False`)

    Raises:
        ValueError: If the spec is malformed, its kind or name is unknown, or it names an import path unasked.
    """
    types = {"kind": str, "name": str, "args": dict}
    if not isinstance(spec, dict) or {key: type(value) for key, value in spec.items()} != types:
        raise ValueError(f"a spec has the entries kind, name and args: text, text and a dictionary; got {spec!r}")
    if spec["kind"] not in Registry.kinds:
        raise ValueError(f"unknown kind {spec['kind']!r}: choose one of {', '.join(Registry.kinds)}")
    if "." in spec["name"] and not trust:
        raise ValueError(
            f"the spec names the import path {spec['name']!r}: pass trust=True to import it, or the module"
        )
    return Registry.kinds[spec["kind"]].build(spec["name"], **spec["args"])


def _import_class(path: str) -> type[Module]:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Module)):
        raise ValueError(f"{path!r} is not a class of torch modules")
    return found


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
