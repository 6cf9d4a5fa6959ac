"""`python -m pyvospace`."""

from pyvospace.cli.main import main

main()
