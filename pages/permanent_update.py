"""What would writing this into the weights do?"""

from npt_viz import ui
from npt_viz.ui.edit.permanent_update import controls, panels, panels_ledger, state

ui.require_app()


def body(view: ui.View) -> None:
    # Bad input in one part leaves the others usable.
    for part in (controls.choices, panels.effect, panels.judge, panels_ledger.ledger):
        with ui.guarded():
            part(view)
    ui.downloads(view, key="permanent_update", choices=lambda: state.choices(view))


ui.inspect_page("Permanent update", "What would writing this into the weights do?", panels.answer, body)
