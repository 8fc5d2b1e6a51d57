"""Does the modulated MLP replace attention?"""

from npt_viz import ui
from npt_viz.ui.inspect.reconstruction import panels, panels_downstream

ui.require_app()


def body(view: ui.View) -> None:
    panels.shares(view)
    sections = {
        "Tokens": lambda: panels.tokens(view),
        "Limits": lambda: panels.limits(view),
        "Ablations": lambda: panels.ablations(view),
        "Downstream": lambda: panels_downstream.downstream(view),
        "Continuations": lambda: panels_downstream.continuations(view),
    }
    ui.details(sections, key="reconstruction_section")
    ui.downloads(
        view,
        lambda: panels.frame(view),
        key="reconstruction",
        choices=lambda: {"layer": view.layer, "keep_sinks": view.with_sinks},
    )


ui.inspect_page("Reconstruction", "Does the modulated MLP replace attention?", panels.answer, body)
