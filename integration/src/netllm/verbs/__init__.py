"""RL_Collect, Adapt, Improve and Test, one module each, and what only they need."""
