"""`python -m rotator`: the command line."""

from rotator.faces.cli import main

main()
