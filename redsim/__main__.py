"""`python -m redsim`."""

from redsim.cli import main

main()
