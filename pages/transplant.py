"""What if one prompt used another prompt's modulation?"""

from npt_viz import ui
from npt_viz.ui.edit import transplant

ui.require_app()

view = ui.inspect_page("Transplant", "What if prompt B used prompt A's modulation?", transplant.answer)
transplant.receiver(view)
transplant.pictures(view)
transplant.kept_results(view)
