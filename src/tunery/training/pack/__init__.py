"""Packed trials: several adapters trained over one frozen base, whose products are computed for all of them at once.

Each trial keeps its own trainer, optimizer, schedule, clipping, generators, checkpoints and scores, which is all that
it has alone; only the forward and the backward pass are shared. Source: PLoRA, arXiv:2508.02932.
"""
