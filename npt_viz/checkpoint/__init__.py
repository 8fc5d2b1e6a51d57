"""Checkpoints of every known format: opened lazily and safely, saved whole or not at all."""

from npt_viz.checkpoint.live import Live, as_checkpoint, live_checkpoint
from npt_viz.checkpoint.opening import Checkpoint
from npt_viz.checkpoint.saving import Converted, save_checkpoint

__all__ = ["Checkpoint", "Converted", "Live", "as_checkpoint", "live_checkpoint", "save_checkpoint"]
