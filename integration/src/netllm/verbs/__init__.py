"""RL_Collect, Adapt, Improve, Distil and Test, one module each, and what several of them need."""
