r"""The modules that torch.compile and DataParallel wrap, and the names of their weights."""

from torch.nn import DataParallel, Module
from torch.nn.parallel import DistributedDataParallel


def unwrap(module: Module) -> Module:
    r"""Returns the module inside the wrappers of :func:`torch.compile`,
    :class:`~torch.nn.DataParallel` and :class:`~torch.nn.parallel.DistributedDataParallel`, and any
    other module as it is.
    """
    name = _name_wrapped(module)
    while name is not None:
        module = getattr(module, name)
        name = _name_wrapped(module)
    return module


def list_plain_names(model: Module) -> dict[str, str]:
    r"""Returns the names in the state dict of a model, each with the name that the entry would have
    if no part of the model was wrapped.
    """
    wrappers = {}
    for path, module in model.named_modules(remove_duplicate=False):
        name = _name_wrapped(module)
        if name is not None:
            wrappers[f"{path}.{name}."] = f"{path}."
    plain_names = {}
    for name in model.state_dict(keep_vars=True):
        plain = name
        for prefix in sorted(wrappers, key=len, reverse=True):
            if plain.startswith(prefix):
                plain = wrappers[prefix] + plain[len(prefix) :]
        plain_names[name] = plain
    return plain_names


def _name_wrapped(module: Module) -> str | None:
    if "_orig_mod" in module._modules:
        return "_orig_mod"
    if "module" in module._modules and isinstance(module, DataParallel | DistributedDataParallel):
        return "module"
    return None
