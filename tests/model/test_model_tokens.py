"""Tokens as people see them, and prompts as the model reads them."""

import re

import numpy as np
import pytest
from conftest import byte_tokenizer, tiny_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from npt_viz.errors import NptVizError
from npt_viz.model.opening import open_model
from npt_viz.model.packaged import ModelNotHereError
from npt_viz.model.tokens import display_token, encode

SIGN = re.compile(
    r"⟨0x(?P<byte>[0-9A-F]{2})⟩|⟨U\+(?P<code>[0-9A-F]+)⟩|⟨⟩|(?P<carrier>◌)|(?P<char>.)", re.DOTALL
)
NAMED = {"␣": " ", "↵": "\n", "⇥": "\t", "␍": "\r"}


def read_back(glyph: str) -> bytes:
    """The bytes that a glyph stands for, by the rules its docstring gives: the other way round."""
    found = b""
    for sign in SIGN.finditer(glyph):
        if sign["byte"]:
            found += bytes([int(sign["byte"], 16)])
        elif sign["code"]:
            found += chr(int(sign["code"], 16)).encode()
        elif sign["char"]:
            found += NAMED.get(sign["char"], sign["char"]).encode()
    return found


NASTY = [
    " the",
    "the",
    "␣the",
    " \n\t\r",
    "⟨0xE2⟩ ⟨U+200B⟩ ◌",
    "a\u200bb\u202eevil\u202c\u2066x",
    "👩‍👩‍👧 🇩🇪 ❤\ufe0f",
    "\u0301e\u0301",
    "<b>&amp;<script>",
    "\x00\x1b[31m\x7f\x85",
    "\u00a0\u3000\u2028\ufeff\u00ad\u3164",
    "مرحبا שלום",
    "中文𝒳",
    "�",
    "<|im_start|> <bos>",
    "```py\n    x = 'y'\n```",
]
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def with_nasty(test):
    for text in NASTY:
        test = example(text)(test)
    return test


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def smollm2():
    try:
        return open_model("smollm2-135m")
    except ModelNotHereError as reason:
        pytest.skip(str(reason))


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: ▁ for a space, <0xE2> for bytes, and an added token that is not special."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁the", "the", "é", "▁▁", "␣"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens(["<think> "])
    return fast


def glyphs_of(tokenizer, *pieces: str) -> list[str]:
    return [display_token(tokenizer, tokenizer.convert_tokens_to_ids(piece)).glyph for piece in pieces]


MODEL = tiny_model(1)
"""For hypothesis, which wants no function-scoped fixtures."""


# One token


def test_white_space_has_signs_and_never_vanishes():
    tokenizer = byte_tokenizer()
    shown = [display_token(tokenizer, i).glyph for i in tokenizer(" \n\t\r")["input_ids"]]
    assert shown == ["␣", "↵", "⇥", "␍"]


def test_sentencepiece_tokens_read_as_their_text():
    tokenizer = sentencepiece_tokenizer()
    assert glyphs_of(tokenizer, "▁the", "the", "▁▁", "é") == ["␣the", "the", "␣␣", "é"]
    assert glyphs_of(tokenizer, "<0xE2>", "<0x41>", "<0x0A>") == ["⟨0xE2⟩", "A", "↵"]


def test_bytes_that_are_no_character_are_numbers_and_say_so():
    token = display_token(sentencepiece_tokenizer(), 3 + 0xE2)
    assert token == ("⟨0xE2⟩", "bytes", 3 + 0xE2, r"b'\xe2'")


def test_special_tokens_are_special_and_added_ones_are_not():
    tokenizer = sentencepiece_tokenizer()
    assert display_token(tokenizer, 1)[:2] == ("<s>", "special")
    assert display_token(tokenizer, len(tokenizer) - 1)[:2] == ("<think>␣", "text")


def test_a_literal_sign_differs_from_what_the_sign_means():
    tokenizer = sentencepiece_tokenizer()
    assert glyphs_of(tokenizer, "▁", "␣") == ["␣", "⟨U+2423⟩"]
    ids = [tokenizer.convert_tokens_to_ids(piece) for piece in ("▁", "␣")]
    assert [display_token(tokenizer, i).raw for i in ids] == ["' '", "'␣'"]


def test_an_id_without_a_token_is_shown_as_its_number():
    """Embeddings are padded: a model can predict an id that its tokenizer lacks."""
    assert display_token(byte_tokenizer(), 300) == ("⟨id 300⟩", "special", 300, "no token has this id")


def test_the_same_id_reads_differently_in_two_tokenizers():
    assert display_token(byte_tokenizer(), 1).glyph == "<eos>"
    assert display_token(sentencepiece_tokenizer(), 1).glyph == "<s>"


@pytest.mark.slow
def test_different_tokens_have_different_glyphs(smollm2):
    size = len(smollm2.tokenizer)
    assert len({display_token(smollm2.tokenizer, i).glyph for i in range(size)}) == size


# Prompts


@with_nasty
@given(texts.filter(lambda text: "<bos>" not in text and "<eos>" not in text))
@settings(max_examples=60, deadline=None)
def test_glyphs_read_back_to_the_very_text(text):
    """Bytes of a character are tokens of their own here, so that every non-ASCII character is in pieces."""
    pieces = encode(MODEL, text[:90]).pieces
    assert b"".join(read_back(piece.glyph) for piece in pieces) == text[:90].encode()


@with_nasty
@given(texts)
@settings(max_examples=200, deadline=None)
def test_no_glyph_is_invisible_or_steers_the_terminal(text):
    tokenizer = Tokenizer(models.WordLevel({text: 0}, unk_token=text))
    glyph = display_token(PreTrainedTokenizerFast(tokenizer_object=tokenizer), 0).glyph
    assert read_back(glyph) == text.encode()
    assert glyph.isprintable() and not glyph.isspace()
    assert not set(glyph) & set("\u200b\u200d\u202e\u2066\ufeff\u00ad\ufe0f\u3164\u115f")


@pytest.mark.slow
@with_nasty
@example("a\U00040000b")
@given(texts.filter(lambda text: text.strip("\x04\x06\x13\x14\x16\x1d")))
@settings(max_examples=100, deadline=None)
def test_smollm2_glyphs_read_back_to_the_very_text_or_a_note_says_that_they_do_not(smollm2, text):
    """SmolLM2 has no token for some bytes, 0xF1 among them, and drops them in silence."""
    encoded = encode(smollm2, text)
    is_exact = b"".join(read_back(piece.glyph) for piece in encoded.pieces) == text.encode()
    assert is_exact != any("cannot write this prompt exactly" in note for note in encoded.notes)


def test_a_prompt_is_never_trimmed(model):
    assert encode(model, "  a\n ").ids == model.tokenizer("  a\n ")["input_ids"]
    assert len(encode(model, "  a\n ").ids) == 5


def test_ids_are_taken_as_they_are(model):
    assert encode(model, np.array([5, 0, 200])).ids == [5, 0, 200]
    assert encode(model, [5, 0, 200]).pieces[1].kind == "special"


@pytest.mark.parametrize("adds_bos", [False, True])
def test_bos_auto_is_what_the_tokenizer_does(adds_bos):
    model = with_bos(adds_bos)
    auto, forced, without = (encode(model, "ab", bos=bos).ids for bos in ("auto", True, False))
    assert auto == model.tokenizer("ab")["input_ids"]
    assert forced == [0, *without]
    assert auto == (forced if adds_bos else without)


def with_bos(adds_bos: bool):
    from tokenizers.processors import TemplateProcessing

    model = tiny_model(1)
    if adds_bos:
        model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", 0)]
        )
    return model


def test_chat_puts_the_prompt_into_the_template():
    model = tiny_model(1)
    model.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    encoded = encode(model, " hi ", chat=True)
    assert "".join(piece.glyph for piece in encoded.pieces) == "<bos>[user]␣hi␣[assistant]"
    assert "chat template" in encoded.notes[0]


def test_notes_tell_what_a_reader_could_miss(model):
    assert encode(model, "a").notes == ()
    assert "<eos> in the prompt became special tokens" in encode(model, "a<eos>b").notes
    assert "ends with a space" in encode(model, "a ").notes[0]


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ("", {}, "the prompt is empty"),
        ([], {}, "the prompt is empty"),
        ([5, 258], {}, "token id 258 is not in the vocabulary of tiny (0 to 257)"),
        ([-1], {}, "token id -1 is not in the vocabulary"),
        ("x" * 98, {}, "98 tokens and tiny holds 97; shorten it by 1"),
        ("a\ud800", {}, "lone surrogate U+D800 at character 1"),
        ("a", {"chat": True}, "tiny has no chat template"),
        ([5], {"chat": True}, "takes text and got token ids"),
        ([5], {"bos": True}, "bos=True does not go with token ids"),
    ],
)
def test_a_bad_prompt_is_one_sentence(model, prompt, options, words):
    with pytest.raises(NptVizError, match=re.escape(words)):
        encode(model, prompt, **options)


def test_bos_cannot_be_forced_where_there_is_none():
    model = tiny_model(1)
    model.tokenizer.bos_token = None
    with pytest.raises(NptVizError, match="no beginning-of-sequence token"):
        encode(model, "a", bos=True)


def test_a_prompt_as_long_as_the_context_fits(model):
    assert len(encode(model, "x" * 97).ids) == 97
