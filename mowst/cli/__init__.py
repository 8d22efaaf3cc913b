r"""The command line, the only room that reads arguments: :obj:`mowst train`, :obj:`evaluate`, :obj:`predict`,
:obj:`study`, :obj:`sweep`, :obj:`best`, :obj:`report`, :obj:`datasets`, :obj:`bench`.
"""

from mowst.cli.commands import main

__all__ = ["main"]
