"""Weights in files: safetensors, pickles and PyTorch's own, read without running any of them.

    load_safetensors, save_safetensors   arrays by name; mapped, not read, until they are touched
    load_pickle, save_pickle             arrays and plain containers; all else refused by name
    load_torch                           .pt, .bin and pickled modules, for their arrays
    load_tensorflow                      TensorFlow's variables, from NAME.index and NAME.data-*

NumPy has no bfloat16: arrays of it have the dtype BFLOAT16 (raw bits); `widen` makes them float32.
"""

from .files import release
from .pickles import load_pickle, save_pickle
from .plain import BFLOAT16, Stub, widen
from .safetensors import load_safetensors, save_safetensors
from .tensorflow import load_tensorflow
from .torch_files import load_torch, module_state
