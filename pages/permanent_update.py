"""What would writing this into the weights do?"""

from npt_viz import ui
from npt_viz.ui.edit import controls as edit_controls
from npt_viz.ui.edit import ledger as edit_ledger
from npt_viz.ui.edit import panels as edit_panels
from npt_viz.ui.edit import permanent_update

ui.require_app()

view = ui.inspect_page(
    "Permanent update", "What would writing this into the weights do?", permanent_update.answer
)
edit_controls.controls(view)
# Bad input in one part leaves the other usable.
for part in (edit_panels.judge, edit_ledger.ledger):
    with ui.guarded():
        part(view)
