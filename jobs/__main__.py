"""`python -m jobs`: the command line where the console script is not on the path."""

from jobs.cli import main

main()
