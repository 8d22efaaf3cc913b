r"""Mixture of weak and strong experts on graphs. The public names are listed in
:obj:`__init__.pyi`; each is imported when it is first used, so that the command line starts without
torch.
"""

import sys
from importlib.metadata import version

if sys.version_info < (3, 11):  # noqa: UP036, a clone may be imported where pip would refuse
    found = ".".join(map(str, sys.version_info[:3]))
    raise ImportError(f"mowst needs Python 3.11 or later, this is Python {found}")

import lazy_loader  # noqa: E402, may be missing there

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("mowst")
