import sys

from mowst.cli import main

sys.argv[0] = "mowst"  # for the record of the command in a run folder
sys.exit(main())
