"""What holds for the tests of every package."""

import os

import hypothesis

# The tests' networks are tiny: a second thread would only wait for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long one example takes is the machine's affair, not the code's.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")
