"""experiment.toml: what is written is read back; what nothing reads is refused."""

import re
import tomllib
from pathlib import Path

import pytest

from npt_viz.adapter import VARIANTS, Semantics
from npt_viz.errors import NptVizError
from npt_viz.experiments.plan import ARM_PRESETS, Arm, Experiment, arms_of
from npt_viz.experiments.spec_file import experiment_from, experiment_toml, read_experiment_spec
from npt_viz.training.losses import TERMS, Curriculum, Objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.spec import AdapterSpec

ARMS = (
    Arm(name="direct", losses=Objective(weights={"direct": 1.0})),
    Arm(
        name="everything else",
        losses=Objective(
            weights={"direct": 0.3, "guidance": 2.0},
            as_written=frozenset({"guidance"}),
            stage_steps=7,
            adaptive="gradient_norms",
            curriculum=Curriculum(steps=(3, 5), quantiles=(0.2, 0.9)),
            gradient_scale=3.5,
        ),
        changes={"learning_rate": 0.02, "schedule": "constant"},
    ),
)
SPEC = AdapterSpec(layers=(3, 1), targets=("gate", "down"), rank=5, semantics=VARIANTS["N2"].semantics)
WHOLE = Experiment(
    name="a name",
    arms=ARMS,
    start=SPEC,
    recipe=Recipe(steps=11, batch_tokens=17, clip=0.5, positions="trained"),
    seeds=(4, 2),
    reference="everything else",
    model="some/model",
    dtype="bfloat16",
    device="cuda:1",
    text="texts.jsonl",
    tokens=1234,
    window=99,
    prompt='a "prompt"\nof two lines',
)
CONTINUED = Experiment(
    name="b", arms=ARMS, start="folder", layers=(5,), semantics="N4", recipe=Recipe(steps=1), seeds=(0,)
)


@pytest.mark.parametrize("experiment", [WHOLE, CONTINUED], ids=["fresh", "checkpoint"])
def test_what_is_written_is_read_back(experiment, tmp_path):
    (tmp_path / "x.toml").write_text(experiment_toml(experiment), encoding="utf-8")
    assert read_experiment_spec(tmp_path / "x.toml") == experiment


@pytest.mark.parametrize("preset", ARM_PRESETS)
def test_every_preset_is_written_and_read_back(preset):
    experiment = Experiment(name="p", arms=arms_of(preset), start=SPEC, recipe=Recipe(steps=1))
    assert experiment_from(tomllib.loads(experiment_toml(experiment))) == experiment


def test_presets_have_the_arms_that_their_names_promise():
    assert [arm.name for arm in arms_of("each loss alone")] == list(TERMS)
    assert all(len(arm.losses.active) == 1 for arm in arms_of("each loss alone"))
    whole, *without = arms_of("leave one out")
    assert len(without) == len(whole.losses.active)
    for arm in without:
        assert len(arm.losses.active) == len(whole.losses.active) - 1
    both = arms_of("as written vs corrected")
    assert {frozenset(arm.losses.as_written) for arm in both[:2]} == {frozenset(), frozenset({"direct"})}
    assert len(arms_of("published phases 1-4")) == 5, "the direct loss alone is what the phases add to"
    assert [arm.name for arm in arms_of("each loss alone", only=["kl", "direct"])] == ["direct", "kl"]


def test_a_variant_in_the_file_decides_what_is_not_named_beside_it():
    start = '[start]\nlayers = [1]\nvariant = "{}"\n'

    def read(variant, more=""):
        return experiment_from(tomllib.loads("steps = 1\n" + TWO + start.format(variant) + more)).start

    assert read("S1-early") == AdapterSpec.of_variant("S1-early", [1])
    assert read("N5", 'scale = 2\nattention = "beside"\nrank = 5\n') == AdapterSpec(
        layers=(1,),
        targets=("gate", "up", "down"),
        rank=5,
        semantics=Semantics(attention="beside", scale=2.0),
    )


START = "[start]\nlayers = [1]\n"
TWO = 'preset = "each loss alone"\n'
BAD = {
    "no arms": ("steps = 1\n" + START, "has 0 arms"),
    "no start": ("steps = 1\n" + TWO, "one of the two"),
    "both starts": ('steps = 1\ncheckpoint = "c"\n' + TWO + START, "one of the two"),
    "no steps": (TWO + START, "steps is missing"),
    "unknown key": ("steps = 1\nstep = 2\n" + TWO + START, "'step', which nothing reads"),
    "unknown recipe": ("steps = 1\n" + TWO + START + "[recipe]\nlr = 1\n", "'lr', which nothing reads"),
    "unknown in start": ("steps = 1\n" + TWO + START + "layer = 3\n", "'layer', which nothing reads"),
    "unknown preset": ('steps = 1\npreset = "all"\n' + START, "preset 'all' does not exist"),
    "unknown arm": ("steps = 1\n" + TWO + 'only = ["x"]\n' + START, "no arm 'x'"),
    "unknown loss": ("steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\nlosses = "magic=1"\n', "'magic'"),
    "negative weight": (
        "steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\nlosses = "kl=-1"\n',
        "0 or more",
    ),
    "no losses": ("steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\n', "needs a name and losses"),
    "same arm": (
        "steps = 1\n" + TWO + START + '[[arms]]\nname = "KL"\nlosses = "kl=1"\n',
        "share the folder kl",
    ),
    "same seed": ("steps = 1\nseeds = [1, 1]\n" + TWO + START, "seed 1 is there twice"),
    "no seed": ("steps = 1\nseeds = []\n" + TWO + START, "has no seed"),
    "reference": ('steps = 1\nreference = "x"\n' + TWO + START, "has no arm 'x'"),
    "no change": (
        "steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\nlosses = "kl=1"\nchanges = {batch_tokens = 9}\n',
        "batch_tokens cannot differ",
    ),
    "type": ("steps = 1\nseeds = 3\n" + TWO + START, "seeds must be a list"),
    "seeds": ('steps = 1\nseeds = ["a"]\n' + TWO + START, "each of its items a whole number"),
    "large seed": ("steps = 1\nseeds = [99999999999999999999]\n" + TWO + START, "must be a whole number"),
    "true for a number": ("steps = true\n" + TWO + START, "steps must be a whole number, got True"),
    "part of a token": ("steps = 1\nwindow = 9.5\n" + TWO + START, "window must be a whole number"),
    "no path": ("steps = 1\ncheckpoint = 5\n" + TWO, "checkpoint must be text"),
    "only of nothing": ('steps = 1\nonly = ["kl"]\n' + START, "only goes with a preset"),
    "semantics twice": ('steps = 1\nsemantics = "N4"\n' + TWO + START, "semantics goes with a checkpoint"),
    "no variant": ("steps = 1\n" + TWO + START + 'variant = "N9"\n', "variant 'N9' does not exist"),
    "variant and semantics": (
        "steps = 1\n" + TWO + START + 'variant = "N4"\nsemantics = {rule = "rank_one_sum"}\n',
        "semantics and variant, which semantics decides",
    ),
    "scale as text": ("steps = 1\n" + TWO + START + 'scale = "1"\n', "scale must be a number"),
    "no layers": ("steps = 1\n" + TWO + "[start]\nrank = 3\n", "[start] has no layers"),
    "half a rank": ("steps = 1\n" + TWO + START + "rank = 2.5\n", "rank must be a whole number, got 2.5"),
    "layer as text": ("steps = 1\n" + TWO + '[start]\nlayers = ["1"]\n', "layers must be a list"),
    "no rule": (
        "steps = 1\n" + TWO + START + 'targets = ["gate"]\nsemantics = {rule = "x"}\n',
        "rule must be one of",
    ),
    "half a batch": (
        "steps = 1\n" + TWO + START + "[recipe]\nbatch_tokens = 8.5\n",
        "[recipe]: batch_tokens must be a whole number",
    ),
    "no yes or no": ("steps = 1\n" + TWO + START + '[recipe]\nautocast = "yes"\n', "must be true or false"),
    "NaN decay": ("steps = 1\n" + TWO + START + "[recipe]\nweight_decay = nan\n", "must be finite"),
    "NaN clip": ("steps = 1\n" + TWO + START + "[recipe]\nclip = nan\n", "must be positive"),
    "NaN stages": (
        "steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\nlosses = "kl=1"\nstage_steps = nan\n',
        "arm 'a': stage_steps must be a whole number, got nan",
    ),
    "change of a wrong type": (
        "steps = 1\n"
        + TWO
        + START
        + '[[arms]]\nname = "a"\nlosses = "kl=1"\nchanges = {learning_rate = "x"}\n',
        "arm 'a', changes: learning_rate must be a number",
    ),
    "change that cannot be": (
        "steps = 1\n"
        + TWO
        + START
        + '[[arms]]\nname = "a"\nlosses = "kl=1"\nchanges = {learning_rate = 100.0}\n',
        "arm 'a': learning_rate must lie between 0 and 10",
    ),
    "one loss twice": (
        "steps = 1\n" + TWO + START + '[[arms]]\nname = "a"\nlosses = "direct=1,direct=2"\n',
        "'direct' is named twice",
    ),
    "half a step": ("steps = 1.5\n" + TWO + START, "must be a whole number"),
    "few tokens": ("steps = 1\ntokens = 3\n" + TWO + START, "tokens must be at least"),
    "no TOML": ("steps = = 1", "is no TOML file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_spec_that_cannot_be_run_is_refused_in_a_sentence_that_names_the_file(case, tmp_path):
    text, message = BAD[case]
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(NptVizError, match=r"bad\.toml") as caught:
        read_experiment_spec(tmp_path / "bad.toml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_spec_is_named(tmp_path):
    with pytest.raises(NptVizError, match="no such file or folder"):
        read_experiment_spec(tmp_path / "none.toml")


def test_where_one_arm_needs_whole_sequences_all_of_them_get_them():
    def whole(*names):
        arms = tuple(Arm(name=name, losses=Objective(weights={name: 1})) for name in names)
        experiment = Experiment(name="w", arms=arms, start=SPEC, recipe=Recipe(steps=1))
        return {experiment.recipe_of(arm, 0).whole_sequences for arm in arms}

    assert whole("direct", "kl") == {True} and whole("direct", "guidance") == {False}


def test_the_spec_in_the_how_to_is_one():
    document = Path(__file__).parents[2] / "docs" / "how-to" / "run-an-experiment.md"
    (spec,) = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.S)
    experiment = experiment_from(tomllib.loads(spec))
    assert [arm.name for arm in experiment.arms] == ["direct", "kl", "both"]
    assert experiment.arm("both").changes == {"learning_rate": 0.001} and experiment.seeds == (0, 1, 2)


@pytest.mark.parametrize("name", ["losses-gate", "losses-gate-up", "phases-gate", "phases-gate-up"])
def test_the_specs_of_the_studies_can_be_run(name):
    experiment = read_experiment_spec(Path(__file__).parents[2] / "docs" / "experiments" / f"{name}.toml")
    assert len(experiment.seeds) >= 3 and len(experiment.arms) >= 7
