"""Every sentence that states a conclusion, held against its data; and the checker, held against false sentences."""

import ast
import importlib
import pkgutil
import re

import comparison_checker  # noqa: F401
import editing_checker  # noqa: F401
import pytest
import reconstruction_checker  # noqa: F401
import scan_checker  # noqa: F401
import trust_checker  # noqa: F401
from health_checker import WAY
from sentence_checker import BASIS, GRAMMAR, LEXICON, Refused, check, turned, wrong_numbers
from stated import all_said
from stated_comparisons import said_of_comparisons
from stated_edits import said_of_edits
from stated_layers import said_of_layers
from stated_scans import said_of_scans

from npt_viz.places import ROOT
from npt_viz.results import sentences

for each in pkgutil.iter_modules(sentences.__path__):
    importlib.import_module(f"npt_viz.results.sentences.{each.name}")

SAID = [*all_said(), *said_of_layers(), *said_of_comparisons(), *said_of_scans(), *said_of_edits()]
OF_OTHERS = {"verdict", "base match", "ledger entry"} | {
    name for name in GRAMMAR if name.startswith("health: ")
}
"""Clauses about sentences that stand inside others, and about findings: tests/test_specimen_sentences.py."""


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.name}: {said.case}")
def test_a_sentence_says_what_its_data_say(said):
    check(said.name, said.sentence, said.data)


def test_no_sentence_is_left_out():
    """A new one has to get clauses here and results to be tried on."""
    assert set(sentences.STATED) == set(GRAMMAR) - OF_OTHERS == {said.name for said in SAID}


def test_no_clause_is_left_unused():
    used = {clause for said in SAID for clause in check(said.name, said.sentence, said.data)}
    unused = {
        clause for name, clauses in GRAMMAR.items() if name not in OF_OTHERS for clause in clauses
    } - used
    assert not unused, [clause.pattern[:90] for clause in unused]


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.name}: {said.case}")
def test_another_number_or_the_opposite_word_is_refused(said):
    text = str(said.sentence)
    false = [*wrong_numbers(text), *turned(text)]
    assert len(false) >= 2
    for each in false:
        with pytest.raises(Refused):
            check(said.name, each, said.data)
            raise LookupError(each)


def test_a_word_that_the_checker_does_not_know_is_refused():
    for said in SAID:
        text = str(said.sentence)
        with pytest.raises(Refused):
            check(said.name, f"{text} It is healthy.", said.data)
        with pytest.raises(Refused):
            check(said.name, f"Clearly, {text}", said.data)
        with pytest.raises(Refused):
            check(said.name, f"{text[:-1]}, clearly.", said.data)


def test_a_clause_recomputes_every_word_that_compares():
    for clauses in GRAMMAR.values():
        for clause in clauses:
            # What a sentence was measured on is recomputed in every clause (`basis`), a way to use an adapter from its name.
            pattern = clause.pattern.replace(BASIS, "").replace(WAY, "").replace("(?P", "")
            words = set(re.findall(r"[a-z]+", re.sub(r"<\w+>", "", pattern)))
            assert words & LEXICON <= clause.compares, (words & LEXICON) - clause.compares


def test_no_page_states_a_conclusion_of_its_own():
    """The `answer` of a page hands its result to a sentence; so does what a running training or experiment says."""
    found = {}
    for path in sorted((ROOT / "npt_viz" / "ui").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        imported = {
            alias.asname: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if "sentence_of" in imported:
            found[path.parent.name] = imported["sentence_of"]
        if "answer" in functions:
            called = {
                ast.unparse(node.func) for node in ast.walk(functions["answer"]) if isinstance(node, ast.Call)
            }
            # Also through a function of the page's own that other parts of it share.
            for other in path.parent.glob("*.py"):
                for node in ast.walk(ast.parse(other.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.FunctionDef) and node.name in called:
                        called |= {
                            ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)
                        }
            assert "sentence_of" in called, (
                f"{path}: answer() has to call a function of npt_viz.results.sentences"
            )
    assert {module.rpartition(".")[2] for module in found.values()} >= {
        "tokens", "reconstruction", "directions", "orthogonality", "attribution", "editing", "training", "runs", "experiments",
    }  # fmt: skip


# What a sentence is measured on.

STATES = {
    "n": r"\d[\d,]* (?:aligned |held-out )?tokens?\b|\d[\d,]* of \d[\d,]* held-out tokens?",
    "text": r"this prompt|of prompt|of the prompt|receiving prompt|(?:bundled|reference|neutral|your) text|held-out|aligned token|texts? of the corpus|A has \d",
    "mode": r"\blocal\b|propagated|run for real|on the stream of the NPT layers below",
    "positions": r"positions as (?:deployed|trained)",
}
"""What every sentence says of what it was measured on -> how."""

EXEMPT = {
    "runs": "a log of another tool: it does not say on what text, in which mode and positions a column was measured",
    "load": "what a file holds does not depend on a text; its n are tensors",
    "realised": "rounding of stored weights: no text is run",
    "experiment": "its arms may differ in just these; n is the seeds, and the table beside it has each arm's setting",
}
"""Sentences whose numbers do not depend on them, or that cannot know them -> why."""

WITHOUT_NUMBERS = (
    r"Layer \d+ has nothing to recover, so nothing of it can be missed\.",
    r"Layer \d+ \(.+\): without modulation this layer already writes its target, so there is nothing to recover\. That is so where "
    r"attention keeps its standard path\.",
    r".+ \(the file alone was judged: no layer was run\)\.",
    r"Which of \d+ strengths? is usable cannot be told: .+",
    r"The prompts of A and B have no token in common, .+",
    r"After \d+ steps? the loss of the batch .+; held-out text has not been looked at yet\.",
)
"""What follows from how the layer is wired or from the file, on any text; and what says that nothing was measured yet."""


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.name}: {said.case}")
def test_a_sentence_states_n_text_mode_and_positions(said):
    text = str(said.sentence)
    if said.name in EXEMPT or not text or any(re.fullmatch(each, text) for each in WITHOUT_NUMBERS):
        return
    missing = [name for name, how in STATES.items() if not re.search(how, text)]
    assert not missing, f"{missing} in {text}"


def test_every_exemption_is_used():
    assert set(EXEMPT) <= {said.name for said in SAID}
    for each in WITHOUT_NUMBERS:
        assert any(re.fullmatch(each, str(said.sentence)) for said in SAID), each
