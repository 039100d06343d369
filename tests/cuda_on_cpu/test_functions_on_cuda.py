"""PyTorch's operator database on `cuda:1`, while the current device is 0: what wraps the ops.

The comparison is that of tests/tinytensor/test_opinfo.py, on fewer samples; here it is the device
that is tested. A function that makes an array by itself, beside the ops, makes it on cuda:1.
"""

import sys
from pathlib import Path

import pytest
import torch

import tinytensor as tt
from tinytensor import backend
from tinytensor.autograd import Variable

sys.path.insert(0, str(Path(__file__).parents[1] / "tinytensor"))
import test_opinfo as opinfo  # noqa: E402

SAMPLES = 4  # of each entry, evenly chosen


@pytest.fixture
def on_gpu(cuda, monkeypatch):
    """The database's tensors go to the last GPU."""
    device = tt.device(cuda, backend.cuda_device_count() - 1)
    to_ours = opinfo.convert

    def convert(a):
        made = to_ours(a)
        if not isinstance(made, Variable):
            return made
        on_device = made.detach().to(device)
        return on_device.requires_grad_(made.requires_grad)

    monkeypatch.setattr(opinfo, "convert", convert)
    return device


ENTRIES = [i for i in opinfo.ENTRIES if {torch.float32, torch.int64} & set(i.dtypes)]


@pytest.mark.parametrize("info", ENTRIES, ids=lambda info: info.formatted_name)
def test_value_and_gradient(info, on_gpu):
    dtype = torch.float32 if torch.float32 in info.dtypes else torch.int64
    gradients = dtype.is_floating_point and info.supports_autograd
    opinfo.run(info, dtype, gradients, "sample_inputs", SAMPLES)
