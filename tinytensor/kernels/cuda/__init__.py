"""Kernels in CUDA C, one subject a file: NAME.cu, and beside it NAME.py that launches them."""

from . import cast as cast
from . import cross_entropy as cross_entropy
from . import dropout as dropout
from . import embedding as embedding
from . import products as products
from . import random as random
