"""RL_Collect, Adapt and Test, one module each, and what only they need."""
