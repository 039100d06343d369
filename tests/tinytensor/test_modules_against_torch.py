"""Modules against PyTorch's of the same name: state_dict keys, output, gradients, repr of options.

Each pair is made with the same arguments and the same parameters, in float64. What F does is
compared over PyTorch's samples elsewhere; here it is whether the module calls it rightly.
"""

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import nn

torch = pytest.importorskip("torch")

# name: (arguments, keyword arguments, shapes of the inputs), several times where options differ
CASES = [
    ("Conv1d", (4, 6, 3), {}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "groups": 2}, [(4, 9)]),
    ("Conv2d", (3, 4, 3), {"stride": 2, "padding": (1, 2), "bias": False}, [(2, 3, 7, 6)]),
    ("Conv2d", (3, 3, 3), {"padding": 2, "padding_mode": "reflect"}, [(2, 3, 7, 6)]),
    ("Conv2d", (3, 3, 2), {"padding": "same", "padding_mode": "circular"}, [(2, 3, 5, 6)]),
    ("Conv2d", (4, 8, (3, 2)), {"dilation": (2, 1), "groups": 4}, [(2, 4, 7, 6)]),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, [(1, 2, 4, 5, 3)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, [(2, 4, 5)]),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), {}, [(2, 4, 5, 4)]),
    ("ConvTranspose3d", (2, 3, 2), {"dilation": 2}, [(1, 2, 3, 2, 3)]),
    ("MaxPool1d", (3,), {"stride": 1, "padding": 1}, [(2, 4, 9)]),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, [(2, 3, 7, 6)]),
    ("MaxPool3d", (2,), {}, [(2, 2, 4, 5, 4)]),
    ("AvgPool1d", (3,), {"count_include_pad": False, "padding": 1}, [(2, 4, 9)]),
    ("AvgPool2d", ((3, 2), 2), {"divisor_override": 5}, [(2, 3, 7, 6)]),
    ("AvgPool3d", (2,), {}, [(2, 2, 4, 5, 4)]),
    ("AdaptiveAvgPool1d", (3,), {}, [(2, 4, 8)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 3, 7, 6)]),
    ("AdaptiveAvgPool3d", (2,), {}, [(2, 2, 4, 5, 4)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 4, 8)]),
    ("AdaptiveMaxPool2d", ((3, 2),), {}, [(2, 3, 7, 6)]),
    ("AdaptiveMaxPool3d", (2,), {}, [(2, 2, 4, 5, 4)]),
    ("BatchNorm1d", (4,), {}, [(6, 4)]),
    ("BatchNorm1d", (4, 1e-3, 0.3), {"affine": False}, [(2, 4, 5)]),
    ("BatchNorm1d", (4,), {"momentum": None}, [(6, 4)]),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, [(6, 4)]),
    ("BatchNorm2d", (3,), {}, [(2, 3, 4, 5)]),
    ("BatchNorm3d", (3,), {}, [(2, 3, 4, 2, 3)]),
    ("InstanceNorm1d", (4,), {"affine": True}, [(2, 4, 5)]),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, [(2, 3, 4, 5)]),
    ("InstanceNorm3d", (3,), {}, [(3, 4, 2, 3)]),
    ("GroupNorm", (2, 6), {}, [(3, 6, 4)]),
    ("LocalResponseNorm", (3,), {"k": 2.0}, [(2, 5, 4)]),
    ("LeakyReLU", (0.2,), {}, [(3, 4)]),
    ("PReLU", (4,), {"init": 0.1}, [(3, 4, 2)]),
    ("ReLU6", (), {}, [(3, 4)]),
    ("ELU", (), {"alpha": 2.0}, [(3, 4)]),
    ("CELU", (0.5,), {}, [(3, 4)]),
    ("SELU", (), {}, [(3, 4)]),
    ("Mish", (), {}, [(3, 4)]),
    ("Hardtanh", (-0.5, 0.7), {}, [(3, 4)]),
    ("Hardsigmoid", (), {}, [(3, 4)]),
    ("Hardswish", (), {}, [(3, 4)]),
    ("Hardshrink", (0.3,), {}, [(3, 4)]),
    ("Softshrink", (0.3,), {}, [(3, 4)]),
    ("Threshold", (0.1, 9.0), {}, [(3, 4)]),
    ("Softplus", (2.0, 1.0), {}, [(3, 4)]),
    ("LogSigmoid", (), {}, [(3, 4)]),
    ("Softsign", (), {}, [(3, 4)]),
    ("Tanhshrink", (), {}, [(3, 4)]),
    ("Softmin", (1,), {}, [(3, 4)]),
    ("GLU", (), {"dim": 0}, [(4, 3)]),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, [(2, 3, 4, 5)]),
    ("Upsample", ((7, 3),), {}, [(2, 3, 4, 5)]),
    ("PixelShuffle", (2,), {}, [(2, 8, 3, 4)]),
    ("PixelUnshuffle", (2,), {}, [(2, 2, 6, 4)]),
    ("ChannelShuffle", (3,), {}, [(2, 6, 3, 4)]),
    ("Unfold", ((2, 3),), {"padding": 1, "stride": 2}, [(2, 3, 5, 6)]),
    ("Fold", ((4, 5), (2, 3)), {}, [(2, 12, 9)]),
    ("ZeroPad1d", (2,), {}, [(3, 4)]),
    ("ConstantPad2d", ((1, 2, 0, 3), 2.5), {}, [(2, 3, 4)]),
    ("ReflectionPad2d", (2,), {}, [(2, 3, 4, 5)]),
    ("ReplicationPad3d", (1,), {}, [(2, 3, 4, 2, 3)]),
    ("CircularPad1d", ((1, 2),), {}, [(2, 3, 4)]),
    ("CosineSimilarity", (), {"dim": -1}, [(3, 4), (3, 4)]),
    ("PairwiseDistance", (1.0,), {"keepdim": True}, [(3, 4), (3, 4)]),
    ("L1Loss", (), {}, [(3, 4), (3, 4)]),
    ("SmoothL1Loss", (), {"beta": 0.5}, [(3, 4), (3, 4)]),
    ("HuberLoss", (), {"reduction": "sum", "delta": 0.5}, [(3, 4), (3, 4)]),
    ("KLDivLoss", (), {"reduction": "batchmean", "log_target": True}, [(3, 4), (3, 4)]),
    ("PoissonNLLLoss", (False,), {"eps": 3.0}, [(3, 4), (3, 4)]),
    ("MarginRankingLoss", (0.3,), {}, [(4,), (4,), (4,)]),
    ("TripletMarginLoss", (0.7,), {"swap": True}, [(3, 4), (3, 4), (3, 4)]),
    ("MultiLabelSoftMarginLoss", (), {}, [(3, 4), (3, 4)]),
    ("BCEWithLogitsLoss", (), {}, [(3, 4), (3, 4)]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_like_pytorchs(case):
    name, args, options, shapes = case
    theirs = getattr(torch.nn, name)(*args, **options).double()
    mine = getattr(nn, name)(*args, **options).double()
    rng = np.random.default_rng(0)
    state = {k: rng.uniform(0.5, 1.5, v.shape) for k, v in theirs.state_dict().items()}
    state = {k: np.zeros_like(v) if k == "num_batches_tracked" else v for k, v in state.items()}
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    mine.load_state_dict({k: tt.tensor(v) for k, v in state.items()})
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes]
    for training in (True, False):
        xs = [torch.tensor(a, requires_grad=True) for a in arrays]
        ys = [tt.tensor(a, requires_grad=True) for a in arrays]
        want, got = theirs.train(training)(*xs), mine.train(training)(*ys)
        np.testing.assert_allclose(got.numpy(force=True), want.detach().numpy(), 1e-9, 1e-9)
        g = rng.standard_normal(tuple(want.shape))
        want.backward(torch.tensor(g))
        got.backward(tt.tensor(g))
        wanted = [*xs, *theirs.parameters()]
        for a, b in zip([*ys, *mine.parameters()], wanted, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), 1e-7, 1e-9)
        theirs.zero_grad()
        mine.zero_grad()
        for k, v in theirs.state_dict().items():
            np.testing.assert_allclose(mine.state_dict()[k].numpy(), v.numpy(), 1e-9)


def test_bce_loss_of_probabilities():
    rng = np.random.default_rng(0)
    p, t, w = rng.uniform(0, 1, (3, 4)), rng.integers(0, 2, (3, 4)) * 1.0, rng.uniform(1, 2, 4)
    want = torch.nn.BCELoss(torch.tensor(w))(torch.tensor(p), torch.tensor(t))
    assert float(nn.BCELoss(tt.tensor(w))(tt.tensor(p), tt.tensor(t))) == pytest.approx(float(want))


def test_gaussian_nll_loss_takes_three():
    rng = np.random.default_rng(0)
    x, t, v = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.uniform(0.1, 2, (3, 4))
    want = torch.nn.GaussianNLLLoss(full=True)(*map(torch.tensor, (x, t, v)))
    got = nn.GaussianNLLLoss(full=True)(*map(tt.tensor, (x, t, v)))
    assert float(got) == pytest.approx(float(want))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode):
    theirs, mine = (m.EmbeddingBag(7, 3, mode=mode, padding_idx=2) for m in (torch.nn, nn))
    weight = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    theirs.load_state_dict({"weight": torch.tensor(weight)})
    mine.load_state_dict({"weight": tt.tensor(weight)})
    index, offsets = [1, 2, 6, 6, 0, 5], [0, 2, 2, 5]
    want = theirs(torch.tensor(index), torch.tensor(offsets))
    got = mine(tt.tensor(index), tt.tensor(offsets))
    np.testing.assert_allclose(got.numpy(force=True), want.detach().numpy(), 1e-6)
    want.square().sum().backward()
    got.square().sum().backward()
    np.testing.assert_allclose(mine.weight.grad.numpy(), theirs.weight.grad.numpy(), 1e-5)


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"])
def test_dropout_of_channels(name):
    dims = {"Dropout1d": 1, "Dropout3d": 3}.get(name, 2)
    x = tt.ones(200, 50, *[3] * dims)
    module = getattr(nn, name)(0.3)
    out = module(x).numpy()
    if name != "AlphaDropout":
        channels = out.reshape(200, 50, -1)
        assert (channels == channels[..., :1]).all(), "a channel is dropped as a whole"
        assert abs((out == 0).mean() - 0.3) < 0.02
        assert abs(out.mean() - 1) < 0.03
    assert module.eval()(x) is x


def test_alpha_dropout_keeps_mean_and_variance():
    tt.manual_seed(0)
    out = nn.AlphaDropout(0.3)(tt.randn(500, 200)).numpy()
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.02


def test_inplace_writes_into_the_input():
    x = tt.tensor([-1.0, 2.0])
    assert nn.LeakyReLU(0.5, inplace=True)(x) is x
    assert x.tolist() == [-0.5, 2.0]
    leaf = tt.tensor([-1.0], requires_grad=True)
    with pytest.raises(tt.errors.InPlaceError):
        nn.functional.relu(leaf, inplace=True)


def test_wrong_options_are_named():
    with pytest.raises(tt.errors.ArgumentError, match="LeakyReLU: the options are negative_slope"):
        nn.LeakyReLU(slope=0.1)
    with pytest.raises(tt.errors.ArgumentError, match="MaxPool2d: kernel_size is required"):
        nn.MaxPool2d()
    with pytest.raises(tt.errors.ShapeError, match=r"Conv2d: .* divide into groups = 2"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match=r"BatchNorm2d: input \(2, 3\) must be \(N, C, H, W\)"):
        nn.BatchNorm2d(3)(tt.ones(2, 3))
