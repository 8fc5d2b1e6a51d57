"""Checkpoints of every known format: opened lazily and safely, saved whole or not at all."""

from npt_viz.checkpoint.opening import Checkpoint, open_checkpoint
from npt_viz.checkpoint.saving import Converted, convert, save_checkpoint

__all__ = ["Checkpoint", "Converted", "convert", "open_checkpoint", "save_checkpoint"]
