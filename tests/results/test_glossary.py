"""The glossary has every number of a token and every rule, says what is good, and cites sections that exist."""

import re
from pathlib import Path

from npt_viz.places import ROOT
from npt_viz.results.glossary import GLOSSARY, PAGES, explained
from npt_viz.results.health import RULES
from npt_viz.results.inspection import METRICS, TOKEN_METRICS
from npt_viz.ui.shell.nav import _PAGES

ENTRIES = [(term, each) for entries in GLOSSARY.values() for term, each in entries.items()]


def test_every_number_of_a_token_says_what_is_good_and_where_that_stands():
    for metric in (METRICS | TOKEN_METRICS).values():
        assert metric.good and metric.source, metric.label
        assert metric.good in explained(metric.label) and metric.source in explained(metric.label)
    assert set(GLOSSARY["Health"]) == set(RULES)


def test_every_page_has_the_meaning_of_its_numbers_with_what_is_good():
    titles = {title for entries in _PAGES.values() for _, title, _ in entries} - {"Home", "Glossary"} | {
        "npt_viz"
    }
    assert titles <= set(PAGES)
    for title, terms in PAGES.items():
        assert len(terms) == len(set(terms)) >= 4, title
        assert any("Good: " in explained(term) for term in terms), title


def test_no_term_stands_twice():
    terms = [term for term, _ in ENTRIES]
    assert len(terms) == len(set(terms))


def test_what_is_cited_exists():
    mathematics = (ROOT / "docs/mathematics.md").read_text("utf-8")
    health = (ROOT / "docs/health.md").read_text("utf-8")
    for term, each in ENTRIES:
        for section in re.findall(r"§(\d+)", each.source):
            assert f'<a id="s{section}">' in mathematics, term
        for name in re.findall(r"[\w./]+\.md", each.source):
            assert Path(ROOT / name).exists(), (term, name)
        for rule in re.findall(r"\b[a-z]+_[a-z_]+\b", re.sub(r"[\w/]+\.py", "", each.source)):
            assert f"`{rule}`" in health, (term, rule)
