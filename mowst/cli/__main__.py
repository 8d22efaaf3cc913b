import sys

from mowst.cli.commands import main

sys.argv[0] = "mowst"  # as a run folder shall tell what made it
sys.exit(main())
