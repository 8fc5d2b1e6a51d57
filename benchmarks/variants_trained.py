"""Every variant that can be trained, from its own beginning: share recovered on held-out text before and after some steps.

python -m benchmarks.variants_trained [STEPS]
"""

import sys
import time

import npt_viz
from npt_viz.adapter import VARIANTS
from npt_viz.texts import bundled_texts
from npt_viz.training.data import corpus_of
from npt_viz.training.spec import AdapterSpec, trainable
from npt_viz.training.streams import Captures

LAYER, RANK, TOKENS = 15, 64, 12_000


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    model = npt_viz.open_model("smollm2-135m", dtype="float32", device="cpu")
    corpus, captures = corpus_of(model, bundled_texts(), tokens=TOKENS), Captures()
    print(
        f"SmolLM2-135M layer {LAYER}, r = {RANK}, k = 1, direct_robust, {corpus.n_train:,} tokens, "
        f"{corpus.n_heldout:,} held out"
    )
    print(f"{'variant':20} {'step 0':>8} {f'step {steps}':>9} {'seconds':>8}  trains")
    for name in trainable():
        training = npt_viz.train(
            model,
            AdapterSpec.of_variant(name, [LAYER], rank=RANK),
            corpus,
            "direct_robust",
            steps=steps,
            evaluate_every=steps,
            captures=captures,
        )
        before, started = training.evaluation()[LAYER].recovered, time.monotonic()
        *_, last = training
        after = last.heldout[LAYER].recovered
        seconds = time.monotonic() - started
        print(f"{name:20} {before:8.3f} {after:9.3f} {seconds:8.0f}  {VARIANTS[name].summary}", flush=True)


if __name__ == "__main__":
    main()
