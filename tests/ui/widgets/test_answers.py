"""The page shows the sentence of its view, token text exactly; what it says is held in tests/results/sentences."""

from views import layer, view

from npt_viz.results.sentences.tokens import tokens
from npt_viz.ui.widgets import answers


def test_the_page_says_the_sentence_of_its_view():
    for left_out in (True, False):
        seen = view(layer(7, [-90, 0.2, 0.4, 0.6, 0.5]), layer(3, [0.1] * 5), left_out=left_out)
        said = answers.tokens(seen).replace("\\", "").replace("**", "").replace("`", "")
        assert said == str(tokens(seen.run, 7, with_sinks=not left_out))
        assert ("1 sink left out" in said) == left_out


def test_token_text_is_shown_exactly():
    assert "most after `*b*` #3" in answers.tokens(view(layer(7, [0.5] * 5), glyph="*b*"))
