"""The answers of the Inspect pages that need nothing but the view."""

from npt_viz.results.sentences.tokens import tokens as sentence_of
from npt_viz.ui.shell.text import markdown
from npt_viz.ui.widgets.view import View


def tokens(view: View) -> str:
    """Share that one layer recovers on this prompt, and the token where the prediction moves most."""
    return markdown(sentence_of(view.run, view.layer, with_sinks=view.with_sinks))
