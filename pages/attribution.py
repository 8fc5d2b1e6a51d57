"""Which input tokens drive this scalar, or this logit?"""

from npt_viz import ui
from npt_viz.ui.inspect.attribution import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    controls.choices(view)
    attributions = panels.bars(view)
    if attributions:
        panels.checks(attributions)
        ui.window_note(view)
        ui.downloads(
            view, lambda: panels.frame(attributions), key="attribution", choices=lambda: state.choices(view)
        )


ui.inspect_page(
    "Attribution",
    "Which input tokens drive this scalar, or this logit?",
    panels.answer,
    body,
    colours=panels.colours,
)
