"""What is offered without being asked for: checkpoints, and the experiments that are shipped."""

from pathlib import Path

from npt_viz.places import ROOT
from npt_viz.ui.cache.owner import owner

MOST_OWN = 8
"""Checkpoints of the workspace that are offered."""


def checkpoints_here() -> list[str]:
    """The demo checkpoints and those in checkpoints/ of the current folder, healthy and simple ones first, then this browser's.

    Short paths where there are any; this browser's are what it trained and uploaded.
    """
    folders = {
        str(config.parent.relative_to(root))
        for root in (ROOT, Path.cwd())
        for config in root.glob("checkpoints/*/npt_config.json")
    }
    own = [str(path) for path in owner().checkpoints()[:MOST_OWN]]
    return [*sorted(folders, key=lambda path: ("unhealthy" in path, len(path), path)), *own]


def first_checkpoint() -> str:
    """What is open before anything was chosen; empty where nothing is offered."""
    return next(iter(checkpoints_here()), "")


def shipped_experiments() -> list[str]:
    """Finished experiments that come with npt_viz, as short paths that are found from any folder."""
    return sorted(str(spec.parent.relative_to(ROOT)) for spec in ROOT.glob("demos/*/experiment.toml"))
