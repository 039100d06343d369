"""What is more than an op, on the CPU and on `cuda`: the same results, and nothing left behind.

Numbers on the device are compared with the CPU's within 1e-5 of float32.
"""

import copy
import io
import math
import pickle

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import backend, nn, optim
from tinytensor.nn import functional as F


def close(mine, theirs, rtol=1e-5, atol=1e-6):
    a, b = (t.numpy(force=True) if isinstance(t, tt.Tensor) else t for t in (mine, theirs))
    np.testing.assert_allclose(a, b, rtol, atol)


@pytest.fixture(params=["cuda:0", "cuda:1"])
def gpu(cuda, request):
    """Each GPU in turn, while the current device is 0."""
    if int(request.param[-1]) >= backend.cuda_device_count():
        pytest.skip("this machine has one GPU")
    return request.param


# ------------------------------------------------------------------------------ tensors

MADE = {
    "zeros": lambda d: tt.zeros(2, 3, device=d),
    "ones": lambda d: tt.ones(2, dtype=tt.int32, device=d),
    "full": lambda d: tt.full((2, 2), 7.5, device=d),
    "arange": lambda d: tt.arange(1, 9, 2, device=d),
    "arange of floats": lambda d: tt.arange(0.0, 1.0, 0.25, device=d),
    "linspace": lambda d: tt.linspace(0, 1, 7, device=d),
    "logspace": lambda d: tt.logspace(0, 2, 3, device=d),
    "eye": lambda d: tt.eye(3, 4, device=d),
    "tensor": lambda d: tt.tensor([[1.0, 2.0]], device=d),
    "tensor of int8": lambda d: tt.tensor([1, 2], dtype=tt.int8, device=d),
    "as_tensor": lambda d: tt.as_tensor(np.arange(3.0), device=d),
    "tril_indices": lambda d: tt.tril_indices(3, 4, device=d),
    "triu_indices": lambda d: tt.triu_indices(3, 4, 1, device=d),
    "zeros_like": lambda d: tt.zeros_like(tt.ones(2, device=d)),
    "new_full": lambda d: tt.ones(2, device=d).new_full((3,), 2.0),
    "rand": lambda d: tt.rand(5, 7, device=d),
    "rand of float64": lambda d: tt.rand(9, dtype=tt.float64, device=d),
    "randn": lambda d: tt.randn(5, 7, device=d),
    "randint": lambda d: tt.randint(3, 90, (11,), device=d),
    "randperm": lambda d: tt.randperm(12, device=d),
    "bernoulli": lambda d: tt.bernoulli(tt.full((20,), 0.3, device=d)),
    "normal": lambda d: tt.normal(tt.zeros(5, device=d), 2.0),
    "multinomial": lambda d: tt.multinomial(tt.arange(1.0, 6.0, device=d), 3),
    "multinomial, replaced": lambda d: tt.multinomial(tt.ones(4, 3, device=d), 5, True),
    "dropout": lambda d: F.dropout(tt.ones(40, device=d), 0.4),
    "dropout2d": lambda d: F.dropout2d(tt.ones(2, 9, 2, 2, device=d), 0.4),
    "alpha_dropout": lambda d: F.alpha_dropout(tt.ones(9, device=d), 0.4, True),
    "rand_like": lambda d: tt.rand_like(tt.ones(3, device=d)),
    "exponential_": lambda d: tt.zeros(9, device=d).exponential_(),
    "geometric_": lambda d: tt.zeros(9, device=d).geometric_(0.3),
    "random_": lambda d: tt.zeros(9, device=d).random_(100),
    "normal_": lambda d: nn.init.normal_(tt.zeros(3, 4, device=d), 1.0, 2.0),
    "kaiming_uniform_": lambda d: nn.init.kaiming_uniform_(tt.zeros(3, 4, device=d)),
    "xavier_normal_": lambda d: nn.init.xavier_normal_(tt.zeros(3, 4, device=d)),
    "trunc_normal_": lambda d: nn.init.trunc_normal_(tt.zeros(3, 4, device=d)),
    "eye_": lambda d: nn.init.eye_(tt.zeros(3, 4, device=d)),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_creation_and_random_numbers(name, gpu):
    """Philox counts the same on every device: random numbers are the same ones."""
    tt.manual_seed(11)
    expected = MADE[name]("cpu")
    state = tt.default_generator.get_state()
    tt.manual_seed(11)
    made = MADE[name](gpu)
    assert made.device == gpu and made.dtype == expected.dtype
    assert tt.default_generator.get_state() == state
    close(made, expected, 1e-6, 1e-7)  # log and cos of another library, at most


def grid(d, **options):
    return tt.tensor(np.arange(12.0, dtype=np.float32).reshape(3, 4), device=d, **options)


def written(index, value):
    def run(d):
        x = grid(d, requires_grad=True)
        y = x * 1
        y[index(d)] = value(d)
        (y * y).sum().backward()
        return [y, x.grad]

    return run


CHANGED = {
    "a slice": written(lambda d: (slice(1, 3), slice(None, None, 2)), lambda d: 5.0),
    "a slice, a tensor": written(lambda d: 1, lambda d: tt.arange(4.0, device=d)),
    "an index tensor": written(lambda d: tt.tensor([0, 2], device=d), lambda d: 1.5),
    "an index from the CPU": written(lambda d: np.array([0, 2]), lambda d: 1.5),
    "a list": written(lambda d: ([0, 1], [2, 3]), lambda d: tt.ones(2, device=d)),
    "a mask": written(lambda d: grid(d) > 6, lambda d: -1.0),
    "a float64": written(lambda d: 0, lambda d: tt.ones(4, dtype=tt.float64, device=d)),
    "a half": lambda d: [grid(d)[:, 1:].half(), grid(d)[tt.tensor([2, 0], device=d), 1]],
    "one element": lambda d: [grid(d)[1, 2], grid(d)[-1, -1] * 2],
    "add_": lambda d: [grid(d).add_(1).mul_(2).sub_(grid(d)).div_(3).clamp_(0, 2)],
    "a view's base": lambda d: through_a_view(d),
    "masked_fill_": lambda d: [grid(d).masked_fill_(grid(d) > 3, 0.5)],
    "index_add_": lambda d: [grid(d).index_add_(0, tt.tensor([0, 0], device=d), grid(d)[:2])],
    "scatter_add_": lambda d: [
        tt.zeros(3, 4, device=d).scatter_add_(0, tt.zeros(2, 4, dtype=tt.int64, device=d), grid(d))
    ],
    "zero_ and fill_": lambda d: [grid(d).zero_(), grid(d).fill_(tt.tensor(2.5, device=d))],
    "copy_ from the CPU": lambda d: [tt.zeros(3, 4, device=d).copy_(grid("cpu"))],
    "t_": lambda d: [grid(d).t_(), grid(d).unsqueeze_(0)],
    "fill_diagonal_": lambda d: [grid(d).fill_diagonal_(9.0)],
}  # fmt: skip


def through_a_view(d):
    x = grid(d, requires_grad=True)
    y = x * 2
    row = y[1]
    row.mul_(3)
    y.sum().backward()
    return [y, row, x.grad]


@pytest.mark.parametrize("name", CHANGED)
def test_indexing_and_writing_in_place(name, gpu):
    got, expected = CHANGED[name](gpu), CHANGED[name]("cpu")
    for a, b in zip(got, expected, strict=True):
        assert a.device == gpu and a.dtype == b.dtype
        close(a, b)


def test_printing(gpu):
    text = repr(grid(gpu, requires_grad=True))
    shown = "tensor([[ 0.,  1.,  2.,  3.],\n        [ 4.,  5.,  6.,  7.],"
    assert text.startswith(shown) and f"device='{gpu}'" in text and "requires_grad=True" in text
    assert f"{tt.tensor(2.5, device=gpu):.2f}" == "2.50"
    assert "MulBackward0" in repr(grid(gpu, requires_grad=True) * 2)


def test_from_device_to_device(gpu):
    """.to() is on the tape: gradients travel back."""
    x = grid("cpu", requires_grad=True)
    y = x.to(gpu)
    z = (y[:, ::2].T.to("cuda:0") * 2).to(gpu).sum()  # strided, from GPU to GPU
    z.backward()
    assert y.device == gpu and z.device == gpu and x.grad.device == "cpu"
    close(x.grad, [[2, 0, 2, 0]] * 3)
    assert y.to(gpu) is y and y.cpu().device == "cpu" and y.cuda(gpu) is y
    assert tt.tensor(y, device="cpu").device == "cpu" and tt.as_tensor(y) is y
    half = y.to(gpu, tt.float16)
    assert (half.dtype, half.device) == (tt.float16, gpu)


@pytest.mark.parametrize(
    "use",
    [lambda x, y: x + y, lambda x, y: x @ y.T, lambda x, y: tt.cat([x, y]),
     lambda x, y: tt.where(x > 0, x, y), lambda x, y: F.linear(x, y), lambda x, y: F.mse_loss(x, y),
     lambda x, y: F.embedding(x.long() % 3, y)],
)  # fmt: skip
def test_mixed_devices_are_named(use, gpu):
    for x, y in ((grid("cpu"), grid(gpu)), (grid(gpu), grid("cpu"))):
        with pytest.raises(tt.errors.DeviceError) as caught:
            use(x, y)
        assert "is on cpu" in str(caught.value) and f"is on {gpu}" in str(caught.value)


def test_copies_and_pickles_come_back(gpu):
    x = grid(gpu, requires_grad=True)
    (x * x).sum().backward()
    for new in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x))):
        assert new.device == gpu and new.requires_grad
        close(new, x)
    assert copy.deepcopy(x).grad.device == gpu
    with pytest.raises(tt.errors.DeviceError, match="is on cuda.*use .cpu"):
        x.detach().numpy()
    with pytest.raises((TypeError, tt.errors.TinyTensorError)):
        np.asarray(x.detach())


def test_dlpack_and_the_array_interface(gpu):
    x = grid(gpu)
    with backend.using(x.array):
        y = tt.from_dlpack(x)
    y.add_(1)
    close(x, grid("cpu") + 1)  # one memory
    assert y.device == gpu and x.__dlpack_device__()[0] == 2
    assert x.__cuda_array_interface__["shape"] == (3, 4)
    with pytest.raises(AttributeError):
        _ = grid("cpu").__cuda_array_interface__


# ------------------------------------------------------------------------------ autograd


def small(d):
    """A small net's parameters and data."""
    tt.manual_seed(0)
    w = [tt.randn(4, 3, requires_grad=True), tt.randn(3, requires_grad=True)]
    x = tt.randn(5, 4)
    w = [p.detach().to(d).requires_grad_() for p in w]
    return w, x.to(d)


def loss_of(w, x):
    return ((x @ w[0] + w[1]).tanh() ** 2).mean()


def accumulated(d):
    w, x = small(d)
    for _ in range(3):
        loss_of(w, x).backward()
    return [p.grad for p in w]


def penalised(d):
    w, x = small(d)
    grads = tt.autograd.grad(loss_of(w, x), w, create_graph=True)
    sum((g * g).sum() for g in grads).backward()
    return [p.grad for p in w]


def checkpointed(d):
    w, x = small(d)
    tt.manual_seed(5)
    f = lambda x: F.dropout((x @ w[0]).tanh(), 0.5)  # noqa: E731
    (tt.autograd.checkpoint(f, x) + w[1]).sum().backward()
    return [p.grad for p in w]


def of_func(d):
    w, x = small(d)
    f = lambda b: (x @ w[0] + b).tanh().sum(0)  # noqa: E731
    return [
        tt.func.jacobian(f, w[1]), tt.func.hessian(lambda b: f(b).sum(), w[1]),
        tt.func.vjp(f, w[1])[1](tt.ones(3, device=d))[0],
        tt.func.jvp(f, (w[1],), (tt.ones(3, device=d),))[1],
    ]  # fmt: skip


def hooked(d):
    w, x = small(d)
    seen = []
    y = x @ w[0]
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    w[1].register_hook(lambda g: seen.append(g))
    (y + w[1]).sum().backward()
    return [y.grad, w[0].grad, *seen]


def several_outputs(d):
    x = grid(d, requires_grad=True)
    a, _, c = x.split(1, 0)
    values, _ = x.max(1)
    ((a * c).sum() + values[0]).backward()
    return [x.grad]


@pytest.mark.parametrize(
    "run", [accumulated, penalised, checkpointed, of_func, hooked, several_outputs]
)
def test_autograd(run, gpu):
    got, expected = run(gpu), run("cpu")
    for a, b in zip(got, expected, strict=True):
        assert a.device == gpu
        close(a, b)


def test_gradcheck(gpu):
    x = tt.rand(3, 2, dtype=tt.float64, device=gpu, requires_grad=True)
    y = tt.rand(2, dtype=tt.float64, device=gpu, requires_grad=True)
    assert tt.autograd.gradcheck(lambda x, y: (x * y).exp().sum(1), (x, y))
    assert tt.autograd.gradgradcheck(lambda x, y: (x * y).exp().sum(1), (x, y))


def test_anomalies_are_found(gpu):
    x = tt.tensor([1.0, 0.0], device=gpu, requires_grad=True)
    with pytest.raises(tt.errors.NonFiniteError, match="log"), tt.autograd.detect_anomaly():
        (x.log() * 0).sum().backward()


def test_the_tape_explains_itself(gpu):
    w, x = small(gpu)
    v, u = small("cpu")
    loss, same = loss_of(w, x), loss_of(v, u)
    mine, theirs = tt.tape_memory(loss), tt.tape_memory(same)
    assert [(r.op, r.argument, r.bytes) for r in mine.rows] == [
        (r.op, r.argument, r.bytes) for r in theirs.rows
    ]
    told = [io.StringIO(), io.StringIO()]
    for out, tensor in zip(told, (loss, same)):
        tt.explain(tensor, depth=2, file=out)
    assert told[0].getvalue() == told[1].getvalue() and "mean" in told[0].getvalue()
    parts = tt.contributions(w[1], loss_of(w, x))
    close(parts.total, tt.contributions(v[1], loss_of(v, u)).total)
    assert "gradient" in repr(parts)


def test_overwriting_is_noticed(gpu):
    x = grid(gpu, requires_grad=True)
    y = x * 1
    z = y.exp()
    z.add_(1)
    with pytest.raises(tt.errors.InPlaceError):
        z.sum().backward()


# ------------------------------------------------------------------------------ modules

MODULES = {
    "Linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (5, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (5, 4)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (5, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (5, 4, 3)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 2, 5, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 2, 3, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 2, 4, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), (2, 2, 5, 4)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 3)),
    "MultiheadAttention": (lambda: Attention(), (3, 5, 4)),
    "Dropout": (lambda: nn.Dropout(0.3), (5, 4)),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 2)), (5, 4)
    ),
    "PReLU": (lambda: nn.PReLU(4), (5, 4)),
}  # fmt: skip


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0]


def run_module(make, shape, d):
    tt.manual_seed(3)
    model = make()
    x = tt.randn(*shape)
    model, x = model.to(d), x.to(d).requires_grad_()
    out = model(x)
    (out * out).sum().backward()
    everything = [out, x.grad, *(p.grad for p in model.parameters()), *model.buffers()]
    return [t for t in everything if t is not None], model


@pytest.mark.parametrize("name", MODULES)
def test_modules(name, gpu):
    got, model = run_module(*MODULES[name], gpu)
    expected, _ = run_module(*MODULES[name], "cpu")
    for a, b in zip(got, expected, strict=True):
        assert a.device == gpu
        close(a, b, 1e-4, 1e-5)
    state = model.state_dict()
    assert all(t.device == gpu for t in state.values())
    fresh = MODULES[name][0]()
    fresh.load_state_dict(state)  # from the GPU into a model on the CPU
    assert all(p.device == "cpu" for p in fresh.parameters())
    for a, b in zip(fresh.state_dict().values(), state.values(), strict=True):
        close(a, b)


def losses_of(d):
    tt.manual_seed(1)
    x, y = tt.randn(6, 4).to(d).requires_grad_(), tt.rand(6, 4).to(d)
    target = tt.tensor([0, 1, 3, 2, -100, 1]).to(d)
    p = x.sigmoid()
    return x, [
        F.cross_entropy(x, target), F.cross_entropy(x, target, label_smoothing=0.1),
        F.cross_entropy(x, y.softmax(-1)), F.nll_loss(x.log_softmax(-1), target),
        F.cross_entropy(x, target, weight=y[0], reduction="none").sum(),
        F.mse_loss(x, y), F.l1_loss(x, y), F.smooth_l1_loss(x, y), F.huber_loss(x, y),
        F.binary_cross_entropy(p, y), F.binary_cross_entropy_with_logits(x, y, pos_weight=y[0]),
        F.kl_div(x.log_softmax(-1), y.softmax(-1), reduction="batchmean"),
        F.cosine_embedding_loss(x, y, tt.ones(6, device=d)), F.triplet_margin_loss(x, y, y * 2),
        F.gaussian_nll_loss(x, y, y + 0.1), F.poisson_nll_loss(x, y),
    ]  # fmt: skip


def test_losses(gpu):
    (x, mine), (u, theirs) = losses_of(gpu), losses_of("cpu")
    for a, b in zip(mine, theirs, strict=True):
        assert a.device == gpu
        close(a, b)
    sum(mine).backward()
    sum(theirs).backward()
    close(x.grad, u.grad)


# ------------------------------------------------------------------------------ training

OPTIMIZERS = {
    "SGD": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2}),
    "SGD nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    "Adam": (optim.Adam, {"weight_decay": 0.1, "maximize": True}),
    "AdamW": (optim.AdamW, {"amsgrad": True}),
    "RMSprop": (optim.RMSprop, {"centered": True, "momentum": 0.9}),
}


@pytest.mark.parametrize("norm_type", [2, math.inf, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_clipping_and_schedules(name, norm_type, gpu, unread):
    """Four steps as on the CPU, without a look at any value."""
    make, options = OPTIMIZERS[name]
    sides = []
    for d in ("cpu", gpu):
        rng = np.random.default_rng(0)
        shapes = ((3, 4), (5,), ())
        params = [tt.tensor(rng.standard_normal(s).astype(np.float32), device=d) for s in shapes]
        for p in params:
            p.requires_grad = True
        opt = make(params, lr=0.1, **options)
        schedule = optim.lr_scheduler.CosineAnnealingLR(opt, 4)
        norms = []
        with unread():
            for _ in range(4):
                opt.zero_grad()
                for p in params:
                    g = rng.standard_normal(p.shape).astype(np.float32)
                    p.grad = tt.tensor(g, device=d)
                norms.append(nn.utils.clip_grad_norm_(params, 0.7, norm_type))
                nn.utils.clip_grad_value_(params, 0.3)
                opt.step()
                schedule.step()
        sides.append((params, norms, opt))
    for a, b in zip(sides[0][0] + sides[0][1], sides[1][0] + sides[1][1], strict=True):
        close(b, a, 1e-6, 1e-7)
        assert b.device == gpu
    state = sides[1][2].state_dict()
    sides[0][2].load_state_dict(state)  # back to the CPU
    for p in sides[0][0]:
        moments = [v for v in sides[0][2].state[p].values() if isinstance(v, tt.Tensor)]
        assert moments and all(v.device == "cpu" for v in moments)


def test_parameters_on_two_devices(cuda, unread):
    """A model over several GPUs is clipped by one norm; each step is where its parameter is."""
    devices = [f"cuda:{i}" for i in range(backend.cuda_device_count())]
    params = [tt.ones(3, device=d, requires_grad=True) for d in devices]
    opt = optim.AdamW(params, lr=0.1)
    with unread():
        for p in params:
            (p * p).sum().backward()
        norm = nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
    close(norm, math.sqrt(12 * len(devices)))
    assert [str(p.device) for p in params] == devices
    assert all(p.grad.device == p.device for p in params)


def test_tt_cuda(gpu):
    """PyTorch's questions about the devices."""
    assert tt.cuda.is_available() and tt.cuda.device_count() == backend.cuda_device_count()
    before = tt.cuda.memory_allocated(gpu)
    x = tt.zeros(1 << 16, device=gpu)
    assert tt.cuda.memory_allocated(gpu) >= before + x.nbytes and tt.cuda.current_device() == 0
    tt.cuda.synchronize(gpu)
    tt.cuda.empty_cache()
    with pytest.raises(tt.errors.DeviceError, match="this machine has . GPU"):
        tt.zeros(1, device="cuda:9")
