#!/bin/sh
# Every demo checkpoint again, from the bundled sample: `sh checkpoints/train-demos.sh [python]`, from the project's root.
set -eu
python=${1:-.venv/bin/python}
train() { "$python" -m npt_viz train --model smollm2-135m --seed 0 --tokens 0 --licence Apache-2.0 --overwrite "$@"; }

train --layers 15 --targets gate --steps 1500 --out checkpoints/smollm2-135m-gate-15
train --layers 15 --targets gate,up --steps 3000 --out checkpoints/smollm2-135m-gate+up-15
train --layers 15 --targets gate,up --steps 1500 --positions trained \
    --fault "trained on activations without RoPE (identity positions), as the public training code did, but deployed with RoPE" \
    --out checkpoints/smollm2-135m-gate+up-15-unhealthy-no-rope
train --layers 10,15,20,25 --targets gate,up,down --components 2 --steps 400 \
    --save-dtype bfloat16 --out checkpoints/smollm2-135m-gate+up+down-10-15-20-25
