"""`python -m neardup`: the command line where the console script is not on the path."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working folder, which Python puts first for -m: it may be a corpus that others have filled

from neardup_jobs.cli import main

main()
