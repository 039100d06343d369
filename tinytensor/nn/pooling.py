"""Pooling as modules. The maths is in ops/pool.py."""

from . import functional as F
from .of_function import REQUIRED, module

_MAX = {
    "kernel_size": REQUIRED, "stride": None, "padding": 0, "dilation": 1, "return_indices": False,
    "ceil_mode": False,
}  # fmt: skip
MaxPool1d = module("MaxPool1d", F.max_pool1d, **_MAX)
MaxPool2d = module("MaxPool2d", F.max_pool2d, **_MAX)
MaxPool3d = module("MaxPool3d", F.max_pool3d, **_MAX)
_UNDO = {"kernel_size": REQUIRED, "stride": None, "padding": 0}
MaxUnpool1d = module("MaxUnpool1d", F.max_unpool1d, **_UNDO)
MaxUnpool2d = module("MaxUnpool2d", F.max_unpool2d, **_UNDO)
MaxUnpool3d = module("MaxUnpool3d", F.max_unpool3d, **_UNDO)
_AVG = {
    "kernel_size": REQUIRED, "stride": None, "padding": 0, "ceil_mode": False,
    "count_include_pad": True,
}  # fmt: skip
AvgPool1d = module("AvgPool1d", F.avg_pool1d, **_AVG)
AvgPool2d = module("AvgPool2d", F.avg_pool2d, **_AVG, divisor_override=None)
AvgPool3d = module("AvgPool3d", F.avg_pool3d, **_AVG, divisor_override=None)
AdaptiveAvgPool1d = module("AdaptiveAvgPool1d", F.adaptive_avg_pool1d, output_size=REQUIRED)
AdaptiveAvgPool2d = module("AdaptiveAvgPool2d", F.adaptive_avg_pool2d, output_size=REQUIRED)
AdaptiveAvgPool3d = module("AdaptiveAvgPool3d", F.adaptive_avg_pool3d, output_size=REQUIRED)
_SIZE = {"output_size": REQUIRED, "return_indices": False}
AdaptiveMaxPool1d = module("AdaptiveMaxPool1d", F.adaptive_max_pool1d, **_SIZE)
AdaptiveMaxPool2d = module("AdaptiveMaxPool2d", F.adaptive_max_pool2d, **_SIZE)
AdaptiveMaxPool3d = module("AdaptiveMaxPool3d", F.adaptive_max_pool3d, **_SIZE)
