"""Kernels in CUDA C, one subject a file: NAME.cu, and beside it NAME.py that launches them."""

from . import (
    activation, adamw, attention, cast, cross_entropy, dropout, embedding, norm, products, random,
    softmax,
)  # fmt: skip
