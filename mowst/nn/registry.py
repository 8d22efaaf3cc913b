r"""Names for experts and gates: built from a name, described as JSON, rebuilt from that
description.
"""

import importlib
import inspect
import json
from typing import Any, ClassVar

from torch.nn import Module

Spec = dict[str, Any]


class Registry:
    r"""Classes of one kind under the names that users type. A name with a dot is the import path of
    any class.

    Args:
        kind (str): What the classes are, such as :obj:`"expert"`.
        home (str): The module that registers the classes of this package. It is imported when a
            name is looked up.
        base (type, optional): The class that all of them derive from. (default:
            :class:`torch.nn.Module`)
    """

    kinds: ClassVar[dict[str, "Registry"]] = {}

    def __init__(self, kind: str, home: str, base: type = Module) -> None:
        self.kind = kind
        self.home = home
        self.base = base
        self._classes: dict[str, type] = {}
        self._defaults: dict[str, dict[str, Any]] = {}
        self.kinds[kind] = self

    def register(self, name: str, cls: type, **defaults: Any) -> None:
        r"""Enters a class under a name.

        Args:
            name (str): The name, without a dot.
            cls (type): The class.
            **defaults (optional): Constructor arguments that hold unless :meth:`build` is given
                others.

        Raises:
            ValueError: If the name has a dot, or is taken by another class.
            TypeError: If the class is of another kind.
        """
        importlib.import_module(self.home)  # the names of this package are taken first
        if "." in name:
            raise ValueError(f"the name {name!r} has a dot, which marks an import path")
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(
                f"a registered {self.kind} is a subclass of {self.base.__name__}, got {cls!r}"
            )
        taken = self._classes.get(name, cls)
        if (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"the {self.kind} name {name!r} is taken by {taken.__module__}.{taken.__qualname__}"
            )
        self._classes[name] = cls
        self._defaults[name] = defaults

    def names(self) -> list[str]:
        r"""Returns the registered names."""
        importlib.import_module(self.home)
        return list(self._classes)

    def find(self, name: str) -> type:
        r"""Returns the class under a name.

        Raises:
            ValueError: If the name is unknown, or its import path leads to no class of this kind.
        """
        if "." in name:
            return _import_class(name, self.base)
        known = ", ".join(self.names())
        if name not in self._classes:
            raise ValueError(
                f"unknown {self.kind} {name!r}: choose one of {known}, or an import path"
            )
        return self._classes[name]

    def build(self, name: str, **kwargs: Any) -> Any:
        r"""Builds an instance. A module that was built from an import path remembers it for
        :func:`spec_of`.
        """
        instance = self.find(name)(**{**self._defaults.get(name, {}), **kwargs})
        if "." in name and isinstance(instance, Module):
            instance._built_from = {"kind": self.kind, "name": name, "args": kwargs}  # type: ignore[assignment]
        return instance

    def name_of(self, module: Any) -> str | None:
        r"""Returns the first name under which the class of a module is registered."""
        for name in self.names():
            if self._classes[name] is type(module):
                return name
        return None


EXPERTS = Registry("expert", home="mowst.experts")
GATES = Registry("gate", home="mowst.nn")


def register_expert(name: str, cls: type[Module], **defaults: Any) -> None:
    r"""Registers an expert, so that :obj:`--weak`, :obj:`--strong`, studies, sweeps and saved
    models know its name. See :meth:`Registry.register`.
    """
    EXPERTS.register(name, cls, **defaults)


def register_gate(name: str, cls: type[Module], **defaults: Any) -> None:
    r"""Registers a gate, so that :obj:`--gate`, studies, sweeps and saved models know its name. See
    :meth:`Registry.register`.
    """
    GATES.register(name, cls, **defaults)


def list_entries() -> list[tuple[str, str, type, dict[str, Any]]]:
    r"""Returns kind, name, class and defaults of all registered classes, so that a worker process
    can register them too, see :func:`register_entries`. Classes that are defined in a function,
    which no other process can import, are left out.
    """
    entries = []
    for kind, registry in Registry.kinds.items():
        for name in registry.names():
            cls = registry.find(name)
            if "<locals>" not in cls.__qualname__:
                entries.append((kind, name, cls, registry._defaults[name]))
    return entries


def register_entries(entries: list[tuple[str, str, type, dict[str, Any]]]) -> None:
    r"""Registers the classes that :func:`list_entries` returned in another process."""
    for kind, name, cls, defaults in entries:
        Registry.kinds[kind].register(name, cls, **defaults)


def constructor_args(module: Module) -> dict[str, Any]:
    r"""Returns the arguments that build a module again: the result of its method
    :obj:`constructor_args`, or the attributes that are named like the parameters of its
    constructor.
    """
    own = getattr(module, "constructor_args", None)
    if callable(own):
        return own()
    return {name: getattr(module, name) for name in inspect.signature(type(module)).parameters}


def spec_of(module: Module) -> Spec | None:
    r"""Returns the JSON-able :obj:`{"kind", "name", "args"}` of a module that a :class:`Registry`
    knows or built, and :obj:`None` for any other module.
    """
    spec = getattr(module, "_built_from", None)
    if spec is None:
        for registry in (EXPERTS, GATES):
            name = registry.name_of(module)
            if name is not None:
                spec = {"kind": registry.kind, "name": name, "args": constructor_args(module)}
    return spec if spec is not None and _is_json(spec) else None


def rebuild(spec: Spec, trust: bool = False) -> Module:
    r"""Builds the freshly initialized module that a spec describes.

    Args:
        spec (dict): The result of :func:`spec_of`, possibly read from a file.
        trust (bool, optional): If set to :obj:`True`, import paths are followed, which runs code.
            (default: :obj:`False`)

    Raises:
        ValueError: If the spec is malformed, its kind or name is unknown, or it names an import
            path without :obj:`trust`.
    """
    types = {"kind": str, "name": str, "args": dict}
    if not isinstance(spec, dict) or {key: type(value) for key, value in spec.items()} != types:
        raise ValueError(
            f"a spec has the entries kind, name and args: text, text and a dictionary; got {spec!r}"
        )
    if spec["kind"] not in Registry.kinds:
        raise ValueError(
            f"unknown kind {spec['kind']!r}: choose one of {', '.join(Registry.kinds)}"
        )
    if "." in spec["name"] and not trust:
        raise ValueError(
            f"the spec names the import path {spec['name']!r}: pass trust=True to import it, or "
            "the module"
        )
    return Registry.kinds[spec["kind"]].build(spec["name"], **spec["args"])


def _import_class(path: str, base: type) -> type:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{path!r} is not a subclass of {base.__name__}")
    return found


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
