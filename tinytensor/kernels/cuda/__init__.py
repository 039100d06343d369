"""Kernels in CUDA C, one subject a file: NAME.cu, and beside it NAME.py that launches them."""

from . import attention as attention
from . import products as products
from . import softmax as softmax
