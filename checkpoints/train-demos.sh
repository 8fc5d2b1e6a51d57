#!/bin/sh
# Every demo checkpoint again, from the bundled sample: `sh checkpoints/train-demos.sh [python]`, from the project's root.
set -eu
python=${1:-.venv/bin/python}
train() { "$python" -m npt_viz train --model smollm2-135m --seed 0 --licence Apache-2.0 --overwrite "$@"; }

train --layers 15 --targets gate --steps 1500 --out checkpoints/smollm2-135m-gate-15
train --layers 15 --targets gate,up --steps 3000 --out checkpoints/smollm2-135m-gate+up-15
train --layers 15 --targets gate,up --steps 1500 --positions trained \
    --fault "trained on activations without RoPE (identity positions), as the public training code did, but deployed with RoPE" \
    --out checkpoints/smollm2-135m-gate+up-15-unhealthy-no-rope
# Some layers have tokens on which almost nothing is to be recovered; direct_robust keeps them from drowning the others.
train --layers 10,15,20,25 --targets gate,up,down --components 2 --losses direct_robust=1 --steps 1500 \
    --save-dtype bfloat16 --out checkpoints/smollm2-135m-gate+up+down-10-15-20-25
