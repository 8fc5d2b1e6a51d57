"""Checkpoints of every known format: opened lazily and safely, saved whole or not at all."""

from npt_viz.checkpoint.opening import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
