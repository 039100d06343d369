"""A run small enough to be repeated often."""

TEXT = "the cat sat on the mat.\nthe dog sat on the log.\n" * 60
TINY = ("--n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 --max-steps 12 "
        "--lr 1e-2 --warmup-steps 3 --dropout 0.1 --grad-accum 2 --eval-every 5 --eval-batches 2 "
        "--log-every 1 --samples 1 --sample-chars 20 --device cpu").split()
