"""Language models for networking: RL_Collect, Adapt, Test."""
