r"""Mixture of weak and strong experts on graphs. The public names are listed in
:obj:`__init__.pyi`; each is imported when it is first used, so that the command line starts without
torch.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("mowst")
