import sys

from mowst.cli.commands import main

sys.exit(main())
