"""`python -m balmer` is the `balmer` command."""

import sys

from balmer.cli import main

sys.exit(main())
