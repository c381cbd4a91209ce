"""`python -m netllm` is the program `netllm`."""

import sys

from netllm.cli import main

sys.exit(main())
