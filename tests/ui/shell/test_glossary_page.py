"""The glossary opens alone, by group, and finds a word in all groups."""

from onpage import html_tables


def test_a_group_is_shown_and_a_word_is_found_in_all_of_them(app):
    page = app("glossary")
    assert not page.exception and not page.error
    assert {"scalar v_a·z", "share recovered"} <= {row["term"] for row in html_tables(page)["glossary"]}
    page.text_input(key="glossary_find").set_value("Leakage").run()
    assert "leakage" in {row["term"] for row in html_tables(page)["glossary"]}
    page.text_input(key="glossary_find").set_value("no such word").run()
    assert "Try fewer" in page.info[0].value
