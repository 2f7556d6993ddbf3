"""``python -m gate`` is the command ``emgate``."""

from gate.cli.app import main

main()
