"""Adapt one frozen language model: backbones, low-rank matrices, pools, training, streaming decisions."""
