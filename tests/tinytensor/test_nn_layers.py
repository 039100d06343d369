"""Layers, activations, losses and attention against PyTorch, with copied weights."""

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import nn

rng = np.random.default_rng(0)


def copy_weights(ours, theirs):
    """PyTorch's initial weights into ours; both in float64."""
    theirs.double()
    ours.double().load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})


def assert_same(ours, theirs, rtol=1e-12, atol=1e-13):
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol, atol)


def check(ours, theirs, *inputs):
    """Same output, and the same gradients of inputs and parameters for the same dL/dout."""
    copy_weights(ours, theirs)
    xs = [tt.tensor(x) for x in inputs]
    ys = [torch.tensor(x) for x in inputs]
    for x, y in zip(xs, ys):
        if y.is_floating_point():
            x.requires_grad_(), y.requires_grad_()
    out, expected = ours(*xs), theirs(*ys)
    assert out.shape == tuple(expected.shape)
    assert_same(out, expected)
    g = rng.standard_normal(out.shape)
    out.backward(tt.tensor(g)), expected.backward(torch.tensor(g))
    for x, y in zip(xs, ys):
        if y.requires_grad:
            assert_same(x.grad, y.grad)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        assert p.grad is not None, name
        assert_same(p.grad, q.grad)


def normal(*shape):
    return rng.standard_normal(shape)


LAYERS = {
    "linear": (nn.Linear(5, 3), torch.nn.Linear(5, 3), (2, 4, 5)),
    "linear without bias": (nn.Linear(5, 3, bias=False), torch.nn.Linear(5, 3, bias=False), (5,)),
    "layer_norm": (nn.LayerNorm(5), torch.nn.LayerNorm(5), (2, 3, 5)),
    "layer_norm of two": (nn.LayerNorm((3, 5)), torch.nn.LayerNorm((3, 5)), (2, 3, 5)),
    "layer_norm, no bias": (nn.LayerNorm(5, bias=False), torch.nn.LayerNorm(5, bias=False), (2, 5)),
    "layer_norm, plain": (
        nn.LayerNorm(5, 1e-3, False), torch.nn.LayerNorm(5, 1e-3, False), (2, 5),
    ),
    "rms_norm": (nn.RMSNorm(5), torch.nn.RMSNorm(5), (2, 3, 5)),
    "rms_norm, eps": (nn.RMSNorm(5, 0.1, False), torch.nn.RMSNorm(5, 0.1, False), (2, 3, 5)),
    "relu": (nn.ReLU(), torch.nn.ReLU(), (3, 4)),
    "gelu": (nn.GELU(), torch.nn.GELU(), (3, 4)),
    "gelu tanh": (nn.GELU("tanh"), torch.nn.GELU("tanh"), (3, 4)),
    "silu": (nn.SiLU(), torch.nn.SiLU(), (3, 4)),
    "tanh": (nn.Tanh(), torch.nn.Tanh(), (3, 4)),
    "sigmoid": (nn.Sigmoid(), torch.nn.Sigmoid(), (3, 4)),
    "softmax": (nn.Softmax(dim=0), torch.nn.Softmax(dim=0), (3, 4)),
    "log_softmax": (nn.LogSoftmax(dim=-1), torch.nn.LogSoftmax(dim=-1), (3, 4)),
    "flatten": (nn.Flatten(), torch.nn.Flatten(), (2, 3, 4)),
    "unflatten": (nn.Unflatten(1, (2, 3)), torch.nn.Unflatten(1, (2, 3)), (2, 6)),
    "identity": (nn.Identity(), torch.nn.Identity(), (2, 3)),
    "dropout of nothing": (nn.Dropout(0.0), torch.nn.Dropout(0.0), (2, 3)),
    "dropout in eval": (nn.Dropout(0.5).eval(), torch.nn.Dropout(0.5).eval(), (2, 3)),
    "sequential": (
        nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)),
        torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2)
        ),
        (3, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    ours, theirs, shape = LAYERS[name]
    check(ours, theirs, normal(*shape))


@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_embedding(padding_idx):
    ours, theirs = nn.Embedding(6, 3, padding_idx), torch.nn.Embedding(6, 3, padding_idx)
    check(ours, theirs, rng.integers(0, 6, (4, 5)))
    fresh = nn.Embedding(6, 3, padding_idx).weight
    assert (fresh.array == 0).all(1).sum() == (padding_idx is not None)
    if padding_idx is not None:
        assert (fresh[padding_idx] == 0).all()


def test_embedding_from_pretrained():
    weights = tt.randn(4, 3)
    layer = nn.Embedding.from_pretrained(weights)
    assert layer.weight.array is weights.array and not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(weights, freeze=False).weight.requires_grad


def test_dropout_scales_what_it_keeps():
    layer = nn.Dropout(0.25)
    x = tt.ones(1000, 40, requires_grad=True)
    y = layer(x)
    kept = y.array != 0
    assert abs(kept.mean() - 0.75) < 0.01 and np.allclose(y.array[kept], 1 / 0.75)
    y.sum().backward()
    assert np.array_equal(x.grad.array, y.array)
    assert layer.eval()(x) is x


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Dropout(1.5),
        lambda: nn.Embedding(3, 2, padding_idx=3),
        lambda: nn.MSELoss(reduction="average"),
        lambda: nn.CrossEntropyLoss(label_smoothing=2),
        lambda: nn.MultiheadAttention(10, 3),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises(ValueError, match="p must|padding_idx|reduction|label_smoothing|num_heads"):
        make()


def test_initial_weights_have_pytorchs_distribution():
    tt.manual_seed(1)
    m = nn.Linear(400, 300)
    for p in (m.weight, m.bias):
        assert abs(p.array).max() <= 0.05 and abs(p.array.std() - 0.1 / 12**0.5) < 0.002
    e = nn.Embedding(300, 300).weight.array
    assert abs(e.mean()) < 0.02 and abs(e.std() - 1) < 0.01


def test_dtype_is_passed_on():
    for m in (
        nn.Linear(2, 2, dtype=tt.float64), nn.Embedding(2, 2, dtype=tt.float64),
        nn.LayerNorm(2, dtype=tt.float64), nn.RMSNorm(2, dtype=tt.float64),
        nn.MultiheadAttention(2, 1, dtype=tt.float64),
    ):  # fmt: skip
        assert all(p.dtype == tt.float64 for p in m.parameters())


# ------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (4,)])
def test_cross_entropy_and_nll(reduction, weighted, smoothing, shape):
    x = normal(*shape)
    target = rng.integers(0, 4, x[:, 0].shape if len(shape) > 1 else ())
    if target.ndim:
        target.reshape(-1)[0] = -1  # ignored
    weight = rng.random(4) if weighted else None
    losses = [("CrossEntropyLoss", {"label_smoothing": smoothing})]
    if not smoothing:
        losses.append(("NLLLoss", {}))
    for name, options in losses:
        options |= {"reduction": reduction, "ignore_index": -1}
        ours = getattr(nn, name)(None if weight is None else tt.tensor(weight), **options)
        theirs = getattr(torch.nn, name)(
            None if weight is None else torch.tensor(weight), **options
        )
        a, b = tt.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out, expected = ours(a, tt.tensor(target)), theirs(b, torch.tensor(target))
        assert_same(out, expected)
        out.sum().backward(), expected.sum().backward()
        assert_same(a.grad, b.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse(reduction):
    x, y = normal(3, 4), normal(3, 4)
    a, b = tt.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out = nn.MSELoss(reduction=reduction)(a, tt.tensor(y))
    expected = torch.nn.MSELoss(reduction=reduction)(b, torch.tensor(y))
    assert_same(out, expected)
    out.sum().backward(), expected.sum().backward()
    assert_same(a.grad, b.grad)


def test_class_weights_are_a_buffer():
    loss = nn.CrossEntropyLoss(tt.ones(3))
    assert list(loss.state_dict()) == ["weight"] and loss.double().weight.dtype == tt.float64


# ------------------------------------------------------------------------------ attention


def both(E, nh, **options):
    ours = nn.MultiheadAttention(E, nh, **options)
    theirs = torch.nn.MultiheadAttention(E, nh, **options)
    copy_weights(ours, theirs)
    return ours, theirs


FUTURE = np.triu(np.ones((5, 5), bool), 1)
PADDING = np.zeros((2, 5), bool)
PADDING[0, 3:] = True
MASKS = {
    "none": {},
    "future": {"attn_mask": FUTURE},
    "floats": {"attn_mask": normal(5, 5)},
    "per head": {"attn_mask": normal(8, 5, 5)},
    "padding": {"key_padding_mask": PADDING},
    "both": {"attn_mask": FUTURE, "key_padding_mask": PADDING},
    "floats in padding": {"key_padding_mask": normal(2, 5)},
    "unaveraged": {"average_attn_weights": False},
    "no weights": {"need_weights": False, "attn_mask": FUTURE},
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention(masks, bias, batch_first):
    ours, theirs = both(12, 4, bias=bias, batch_first=batch_first)
    x = normal(2, 5, 12) if batch_first else normal(5, 2, 12)

    def convert(make):
        return {k: make(v) if k.endswith("mask") else v for k, v in MASKS[masks].items()}

    a, b = tt.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, weights = ours(a, a, a, **convert(tt.tensor))
    expected, expected_weights = theirs(b, b, b, **convert(torch.tensor))
    assert_same(out, expected)
    if expected_weights is None:
        assert weights is None
    else:
        assert weights.shape == tuple(expected_weights.shape)
        assert_same(weights, expected_weights)
    g = normal(*out.shape)
    out.backward(tt.tensor(g)), expected.backward(torch.tensor(g))
    assert_same(a.grad, b.grad)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert_same(p.grad, q.grad)


def test_attention_to_other_keys_and_without_a_batch():
    ours, theirs = both(8, 2, batch_first=True)
    q, k, v = normal(3, 4, 8), normal(3, 6, 8), normal(3, 6, 8)
    assert_same(ours(*map(tt.tensor, (q, k, v)))[0], theirs(*map(torch.tensor, (q, k, v)))[0])
    out, weights = ours(*(tt.tensor(x[0]) for x in (q, k, v)))
    expected, expected_weights = theirs(*(torch.tensor(x[0]) for x in (q, k, v)))
    assert_same(out, expected), assert_same(weights, expected_weights)


def test_causal_attention_is_the_future_masked_and_the_fused_op():
    ours, _ = both(8, 2, batch_first=True)
    x = tt.tensor(normal(2, 5, 8))
    causal = ours(x, x, x, is_causal=True)[0]
    assert np.array_equal(causal.array, ours(x, x, x, attn_mask=tt.tensor(FUTURE))[0].array)
    q, k, v = (
        nn.functional.linear(x, w, b).view(2, 5, 2, 4).transpose(1, 2)
        for w, b in zip(ours.in_proj_weight.chunk(3), ours.in_proj_bias.chunk(3))
    )
    fused = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    fused = ours.out_proj(fused.transpose(1, 2).reshape(2, 5, 8))
    np.testing.assert_allclose(causal.detach().numpy(), fused.detach().numpy(), rtol=1e-12)


def test_attention_says_what_does_not_fit():
    m = nn.MultiheadAttention(8, 2, batch_first=True)
    with pytest.raises(tt.errors.ShapeError, match=r"embed_dim 8"):
        m(tt.ones(2, 3, 6), tt.ones(2, 3, 8), tt.ones(2, 3, 8))


def test_attention_drops_weights_in_training_only():
    m = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    x = tt.randn(2, 5, 8)
    assert (m(x, x, x, average_attn_weights=False)[1] == 0).any()
    assert not (m.eval()(x, x, x, average_attn_weights=False)[1] == 0).any()


def test_functional_is_a_list_of_what_there_is():
    F = nn.functional
    assert all(callable(getattr(F, name)) for name in F.__all__)
    ours = {"add_layer_norm", "add_rms_norm", "cached_attention", "fused_linear_cross_entropy",
            "gelu_mlp", "layer_norm_linear", "layer_norm_mlp", "packed_attention"}  # fmt: skip
    assert set(F.__all__) - ours <= set(dir(torch.nn.functional))


def test_attention_with_fewer_heads_of_keys():
    rng = np.random.default_rng(0)
    shapes = [(2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)]
    data = [rng.normal(size=s) for s in shapes]
    ours, theirs = ([m.tensor(d, requires_grad=True) for d in data] for m in (tt, torch))
    a = tt.nn.functional.scaled_dot_product_attention(*ours, enable_gqa=True)
    b = torch.nn.functional.scaled_dot_product_attention(*theirs, enable_gqa=True)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-12)
    (a * a).sum().backward()
    (b * b).sum().backward()
    for x, y in zip(ours, theirs):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), 1e-10)
    with pytest.raises(RuntimeError, match="multiple of those of key and value"):
        four = tt.zeros(2, 4, 7, 4)
        tt.nn.functional.scaled_dot_product_attention(ours[0], four, four, enable_gqa=True)


def test_max_unpool_undoes_max_pool():
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    results = []
    for m in (tt, torch):
        t = m.tensor(x, requires_grad=True)
        out, places = m.nn.MaxPool2d(2, return_indices=True)(t)
        back = m.nn.MaxUnpool2d(2)(out, places, output_size=(7, 6))
        (back * back).sum().backward()
        results.append((back.detach().numpy(), t.grad.numpy()))
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_topk_takes_the_first_of_equals():
    x = tt.tensor([1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0])
    assert x.topk(3).indices.tolist() == [0, 1, 3]
    assert x.topk(3, largest=False).indices.tolist() == [2, 4, 6]
