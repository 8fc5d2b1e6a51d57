"""What if one prompt used another prompt's modulation?"""

from npt_viz import ui
from npt_viz.ui.edit.transplant import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    controls.operation(view)
    panels.outcome(view)
    panels.kept_results(view)
    ui.downloads(view, key="transplant", choices=lambda: state.choices(view))


ui.inspect_page(
    "Transplant",
    "What if prompt B used prompt A's modulation?",
    panels.answer,
    body,
    above=controls.sides,
    beside=controls.receiver,
    parts=("strip",),
)
