"""What is offered without being asked for: checkpoints, and the experiments that are shipped."""

from pathlib import Path

from npt_viz.places import ROOT


def checkpoints_here() -> list[str]:
    """The demo checkpoints and those in checkpoints/ of the current folder, as short paths; healthy and simple ones first."""
    folders = {
        str(config.parent.relative_to(root))
        for root in (ROOT, Path.cwd())
        for config in root.glob("checkpoints/*/npt_config.json")
    }
    return sorted(folders, key=lambda path: ("unhealthy" in path, len(path), path))


def first_checkpoint() -> str:
    """What is open before anything was chosen; empty where nothing is offered."""
    return next(iter(checkpoints_here()), "")


def shipped_experiments() -> list[str]:
    """Finished experiments that come with npt_viz, as short paths that are found from any folder."""
    return sorted(str(spec.parent.relative_to(ROOT)) for spec in ROOT.glob("demos/*/experiment.toml"))
