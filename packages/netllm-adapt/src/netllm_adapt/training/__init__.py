"""Training: recipe, loop, and the folder that a run is resumed from."""
