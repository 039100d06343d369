"""CPU versions of the ops that a GPT spends its time in, in NumPy.

Memory-bound work goes block by block of rows: a block and its temporaries stay in the L2 cache,
so main memory is read and written once, whatever the number of steps. Sums over rows and columns
are matrix-vector products, which BLAS does at the speed of memory.

Overrides, never definitions: each equals its reference in ops/ within rounding, and hands over the
same saved values. Anything unusual (float16, odd shapes) goes to the reference itself.
"""

from . import (
    activations, attention, dropout, elementwise, embedding, linear_cross_entropy, mlp, norm,
    norm_linear, softmax,
)  # fmt: skip
