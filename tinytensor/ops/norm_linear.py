"""LayerNorm and what comes behind it, as one op: the two halves of a transformer's block.

Each is written with the forwards and rules of what it stands for.
"""

from __future__ import annotations

from ..backend import namespace_of
from ..errors import ShapeError
from ..messages import one_dtype
from ..modes import mode
from ..op import op
from .fused import _add_layer_norm, _gelu_mlp, add_layer_norm, check_mlp, gelu_mlp
from .nn import _last_dims, _layer_norm, _linear, check_linear, layer_norm, linear

FEW = 16  # rows: tokens that are written

# ------------------------------------------------------------------------------ norm, then linear


@op
def _layer_norm_linear(xp, x, weight, norm_weight=None, norm_bias=None, bias=None, *, eps=1e-5):
    """out = LayerNorm(x) weight^T + bias,  LayerNorm(x) = x_hat * norm_weight + norm_bias"""
    h, _ = _layer_norm.op.forward(xp, x, norm_weight, norm_bias, eps=eps)
    return _linear.op.forward(xp, h, weight, bias)


@_layer_norm_linear.rule("x", "weight", "norm_weight", "norm_bias", "bias")
def _(xp, g, x, weight, norm_weight, norm_bias, bias, eps):
    h, saved = _layer_norm.op.forward(xp, x, norm_weight, norm_bias, eps=eps)
    of_x, of_weight, of_bias = (
        _linear.op.rules[name].function for name in ("x", "weight", "bias")
    )
    dx, d_norm_weight, d_norm_bias = _layer_norm.op.rules["x"].function(
        xp, of_x(g, weight), x, norm_weight, saved["mean"], saved["inv_std"]
    )
    d_bias = None if bias is None else of_bias(g, bias.dtype)
    return dx, of_weight(xp, g, h, weight.dtype), d_norm_weight, d_norm_bias, d_bias


def layer_norm_linear(input, norm_weight, norm_bias, weight, bias=None, eps=1e-5):
    """linear(layer_norm(input, (k,), norm_weight, norm_bias, eps), weight, bias)

    input (..., k), norm_weight (k,) or None, norm_bias (k,) or None, weight (m, k), bias (m,) or
    None. Where there is a kernel for it, the norm's weight and bias cost no visit to the rows.
    """
    width = input.array.shape[-1:]
    if not _in_one(_layer_norm_linear.op, input, norm_weight, weight):
        return linear(layer_norm(input, width, norm_weight, norm_bias, eps), weight, bias)
    _last_dims("layer_norm_linear", input, width, weight=norm_weight, bias=norm_bias)
    check_linear("layer_norm_linear", input, weight, bias)
    return _layer_norm_linear(input, weight, norm_weight, norm_bias, bias, eps)


def _in_one(op, input, norm_weight, weight):
    """Has the device a kernel, and does it gain: of more rows than the layer has outputs it saves
    visits, of a few rows the time between ops."""
    kernel = op.implementations[namespace_of(input.array).__name__] is not op.forward
    if not kernel or norm_weight is None or mode.autocast is not None or input.array.ndim == 0:
        return False
    size = input.array.size
    return size >= weight.array.size or size <= FEW * norm_weight.array.size


# ------------------------------------------------------------------------------ sum, norm, MLP, sum


@op
def _layer_norm_mlp(
    xp, x, residual, fc, proj, norm_weight=None, norm_bias=None, fc_bias=None, proj_bias=None,
    *, eps=1e-5,
):  # fmt: skip
    """total = x + residual;  out = total + gelu_mlp(LayerNorm(total))"""
    h, total, _ = _add_layer_norm.op.forward(xp, x, residual, norm_weight, norm_bias, eps=eps)
    return total + _gelu_mlp.op.forward(xp, h, fc, proj, fc_bias, proj_bias)[0]


@_layer_norm_mlp.rule(
    "x", "residual", "fc", "proj", "norm_weight", "norm_bias", "fc_bias", "proj_bias"
)
def _(xp, g, x, residual, fc, proj, norm_weight, norm_bias, fc_bias, proj_bias, eps):
    *out, norm = _add_layer_norm.op.forward(xp, x, residual, norm_weight, norm_bias, eps=eps)
    _, mlp = _gelu_mlp.op.forward(xp, out[0], fc, proj, fc_bias, proj_bias)
    dh, d_fc, d_proj, d_fc_bias, d_proj_bias = _gelu_mlp.op.rules["x"].function(
        xp, g, out[0], fc, proj, fc_bias, proj_bias, mlp["pre"], mlp["hidden"]
    )
    dx, _, d_norm_weight, d_norm_bias = _add_layer_norm.op.rules["x"].function(
        xp, (dh, g), out, norm_weight, norm["mean"], norm["inv_std"]
    )
    return dx, dx, d_fc, d_proj, d_norm_weight, d_norm_bias, d_fc_bias, d_proj_bias


def layer_norm_mlp(
    input, residual, norm_weight, norm_bias, fc_weight, fc_bias, proj_weight, proj_bias, eps=1e-5
):
    """total + gelu_mlp(layer_norm(total)) of total = input + residual: a block's second half.

    input and residual (..., k), norm_weight (k,) or None, norm_bias (k,) or None; the rest is
    gelu_mlp's, with k outputs.
    """
    width = input.array.shape[-1:]
    mlp = (fc_weight, fc_bias, proj_weight, proj_bias)
    if not _in_one(_layer_norm_mlp.op, input, norm_weight, fc_weight):
        h, total = add_layer_norm(input, residual, width, norm_weight, norm_bias, eps)
        return total + gelu_mlp(h, *mlp)
    _last_dims("layer_norm_mlp", input, width, weight=norm_weight, bias=norm_bias)
    one_dtype("layer_norm_mlp", input=input, residual=residual)
    check_mlp("layer_norm_mlp", input, *mlp)
    shapes = {tuple(input.array.shape), tuple(residual.array.shape)}
    if len(shapes) > 1 or proj_weight.array.shape[0] != width[0]:
        raise ShapeError(
            f"layer_norm_mlp: input {tuple(input.array.shape)}, residual "
            f"{tuple(residual.array.shape)} and what the MLP gives, proj_weight "
            f"{tuple(proj_weight.array.shape)}, must have one shape"
        )
    return _layer_norm_mlp(
        input, residual, fc_weight, proj_weight, norm_weight, norm_bias, fc_bias, proj_bias, eps
    )
