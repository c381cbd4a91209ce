"""What holds for the tests of every package."""

import hypothesis

# How long one example takes is the machine's affair, not the code's.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")
