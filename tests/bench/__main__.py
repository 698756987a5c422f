"""`python -m tests.bench`."""

import sys

from tests.bench.bench import main

main(sys.argv[1:])
