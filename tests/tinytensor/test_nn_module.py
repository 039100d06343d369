"""Module: what it finds, saves, loads, moves; and what it says about mistakes."""

import copy
import pickle

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(7, 4)
        self.h = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())])
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight  # shared
        self.scale = nn.Parameter(tt.ones(4))
        self.register_buffer("seen", tt.zeros(1))
        self.register_buffer("cache", tt.arange(3), persistent=False)

    def forward(self, idx):
        x = self.wte(idx)
        for layer in self.h:
            x = layer(x)
        return self.head(x * self.scale)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(7, 4)
        self.h = torch.nn.ModuleList(
            [torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())]
        )
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("cache", torch.arange(3), persistent=False)


def names(pairs):
    return [name for name, _ in pairs]


@pytest.mark.parametrize(
    "listing",
    [
        lambda m: m.named_parameters(),
        lambda m: m.named_parameters(remove_duplicate=False),
        lambda m: m.named_parameters(recurse=False),
        lambda m: m.h.named_parameters(prefix="h"),
        lambda m: m.named_buffers(),
        lambda m: m.named_modules(),
        lambda m: m.named_children(),
        lambda m: m.state_dict().items(),
    ],
)
def test_names_are_pytorchs(listing):
    ours, theirs = names(listing(Net())), names(listing(TorchNet()))
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == len(set(ours))


def test_own_before_children_and_in_order_of_assignment():
    assert names(Net().named_parameters()) == [
        "scale", "wte.weight", "h.0.weight", "h.0.bias", "h.1.0.weight", "h.1.0.bias"
    ]  # fmt: skip
    assert list(Net().state_dict()) == list(TorchNet().state_dict())


def test_reprs_are_pytorchs():
    assert repr(Net()) == repr(TorchNet()).replace("TorchNet", "Net")
    assert repr(nn.Dropout(0.1)) == "Dropout(p=0.1)"  # PyTorch adds inplace=False
    for ours, theirs in [
        (nn.Linear(2, 3, bias=False), torch.nn.Linear(2, 3, bias=False)),
        (nn.Embedding(5, 2, padding_idx=-1), torch.nn.Embedding(5, 2, padding_idx=-1)),
        (nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (nn.Softmax(dim=1), torch.nn.Softmax(dim=1)),
        (nn.RMSNorm(4), torch.nn.RMSNorm(4)),
        (nn.Flatten(), torch.nn.Flatten()),
        (nn.Identity(3), torch.nn.Identity(3)),
        (nn.ModuleDict({"a": nn.Tanh()}), torch.nn.ModuleDict({"a": torch.nn.Tanh()})),
        (
            nn.ModuleList([*(nn.Linear(2, 2) for _ in range(3)), nn.Tanh(), nn.ReLU()]),
            torch.nn.ModuleList(
                [*(torch.nn.Linear(2, 2) for _ in range(3)), torch.nn.Tanh(), torch.nn.ReLU()]
            ),
        ),
    ]:
        assert repr(ours) == repr(theirs)


def test_a_module_with_two_names():
    results = []
    for lib in (nn, torch.nn):
        m = lib.Sequential(lib.Linear(2, 2), lib.ReLU())
        m.append(m[0])
        m.register_module("again", m)  # even a circle comes to an end
        results.append([names(m.named_children()), names(m.named_modules())])
        del m.again
        results[-1] += [names(m.named_parameters()), list(m.state_dict())]
    assert results[0] == results[1]
    assert results[0][-1] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_modules_work_without_calling_super():
    class Bare(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(tt.ones(2))

    assert names(Bare().named_parameters()) == ["w"]
    assert Bare().training


# ------------------------------------------------------------------------------ attributes


def test_none_and_back_and_deletion():
    m = nn.Linear(2, 2)
    m.bias = None
    assert names(m.named_parameters()) == ["weight"] and list(m.state_dict()) == ["weight"]
    assert m(tt.ones(1, 2)).shape == (1, 2)
    m.bias = nn.Parameter(tt.zeros(2))
    assert names(m.named_parameters()) == ["weight", "bias"]
    del m.weight
    assert names(m.named_parameters()) == ["bias"]
    with pytest.raises(AttributeError, match="weight"):
        m.weight  # noqa: B018


def test_a_parameter_is_not_lost_by_assigning_a_tensor():
    m = Net()
    with pytest.raises(TypeError, match=r"Net\.scale is a Parameter and cannot become a Tensor"):
        m.scale = tt.ones(4)
    with pytest.raises(TypeError, match=r"Net\.head is a Module and cannot become a function"):
        m.head = lambda x: x
    m.head = nn.Identity()
    del m.scale
    m.scale = tt.ones(4)  # now it is what the user wants
    assert "scale" not in names(m.named_parameters())


def test_buffers_are_replaced_removed_and_none():
    m = Net()
    m.seen = tt.ones(1)
    assert m.state_dict()["seen"].item() == 1
    assert "cache" not in m.state_dict()
    m.seen = None
    assert "seen" not in m.state_dict()
    m.seen = tt.ones(1)
    del m.seen
    m.seen = tt.ones(1)  # a plain attribute by now
    assert "seen" not in m.state_dict()
    assert "seen" in Net().state_dict()  # other instances are not concerned, nor other classes
    other = nn.Linear(2, 2)
    other.seen = tt.ones(1)
    assert list(other.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training", 3])
def test_names_that_cannot_be(name):
    with pytest.raises(tt.errors.ArgumentError, match="name"):
        nn.Module().register_buffer(name, tt.zeros(1))


def test_registered_values_have_their_kind():
    with pytest.raises(TypeError, match="must be a Parameter or None, got Tensor"):
        nn.Module().register_parameter("w", tt.ones(1))
    with pytest.raises(TypeError, match="must be a Module or None, got Parameter"):
        nn.Module().add_module("w", nn.Parameter(tt.ones(1)))
    m = nn.Module()
    m.register_parameter("w", None)
    assert m.w is None and not list(m.parameters())


def test_lookup_by_path():
    m = Net()
    assert m.get_submodule("h.1.0") is m.h[1][0] and m.get_submodule("") is m
    assert m.get_parameter("h.0.weight") is m.h[0].weight
    with pytest.raises(AttributeError):
        m.get_submodule("h.9")


def test_no_forward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)


# ------------------------------------------------------------------------------ state


def test_state_dict_round_trip():
    a, b = Net(), Net()
    a.seen.fill_(3)
    assert b.load_state_dict(a.state_dict()) == ([], [])
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values()):
        assert np.array_equal(x.array, y.array) and x.array is not y.array, name
    assert b.head.weight is b.wte.weight
    b.load_state_dict({k: v.numpy() for k, v in Net().state_dict().items()})  # arrays will do
    assert b.seen.item() == 0


def test_state_dict_shares_memory_and_leaves_the_graph():
    m = nn.Linear(2, 2)
    state = m.state_dict()
    assert not state["weight"].requires_grad
    state["weight"].fill_(7)
    assert (m.weight == 7).all()
    assert m.state_dict(keep_vars=True)["weight"] is m.weight
    assert list(m.state_dict(prefix="a.")) == ["a.weight", "a.bias"]


def test_load_casts_and_assign_takes_over():
    m = nn.Linear(2, 2)
    new = {"weight": tt.ones(2, 2, dtype=tt.float64), "bias": tt.ones(2, dtype=tt.float64)}
    m.load_state_dict(new)
    assert m.weight.dtype == tt.float32 and (m.weight == 1).all() and m.weight.requires_grad
    m.load_state_dict(new, assign=True)
    assert m.weight.dtype == tt.float64 and m.weight.array is new["weight"].array


def test_every_mismatch_is_named_and_nothing_is_loaded():
    m = Net()
    before = {k: v.array.copy() for k, v in m.state_dict().items()}
    state = Net().state_dict()
    state["h.0.wieght"] = state.pop("h.0.weight")
    state["scale"] = tt.ones(5)
    state["scales"] = tt.ones(1)
    with pytest.raises(tt.errors.CheckpointError) as error:
        m.load_state_dict(state)
    assert str(error.value).splitlines() == [
        "Net.load_state_dict: 4 mismatches",
        "  missing: h.0.weight",
        "  unexpected: h.0.wieght (did you mean h.0.weight?)",
        "  unexpected: scales",  # near scale; but that one is not missing
        "  shape: scale is (4,) here, (5,) in state_dict",
    ]
    assert all(np.array_equal(v.array, before[k]) for k, v in m.state_dict().items())
    state["scale"] = tt.zeros(4)
    result = m.load_state_dict(state, strict=False)
    assert result.missing_keys == ["h.0.weight"]
    assert result.unexpected_keys == ["h.0.wieght", "scales"]
    assert (m.scale == 0).all()
    with pytest.raises(RuntimeError, match="scale"):  # a shape is wrong, strict or not
        m.load_state_dict({"scale": tt.ones(5)}, strict=False)


def test_loading_is_seen_by_a_waiting_backward():
    m = nn.Linear(2, 1)
    x = tt.ones(1, 2, requires_grad=True)
    y = m(x)
    m.load_state_dict(nn.Linear(2, 1).state_dict())
    with pytest.raises(tt.errors.InPlaceError, match="weight"):
        y.backward(tt.ones(1, 1))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_values_sharing_and_nothing_else(clone):
    a = Net().eval()
    b = clone(a)
    idx = tt.tensor([[1, 2, 3]])
    assert np.array_equal(a(idx).array, b(idx).array)
    assert b.head.weight is b.wte.weight and isinstance(b.scale, nn.Parameter)
    assert not b.training and b.scale.requires_grad
    assert list(a.state_dict()) == list(b.state_dict())
    with tt.no_grad():
        b.scale.fill_(0)
    assert (a.scale == 1).all()


# ------------------------------------------------------------------------------ changing all


def test_train_eval_apply_requires_grad_zero_grad():
    m = Net()
    assert all(x.training for x in m.modules())
    assert m.eval() is m and not any(x.training for x in m.modules())
    m.h.train()
    assert m.h[1][0].training and not m.wte.training
    order = []
    assert m.apply(lambda x: order.append(type(x).__name__)) is m
    assert order[-1] == "Net" and order[:3] == ["Embedding", "Linear", "Linear"]
    m(tt.tensor([1])).sum().backward()
    m.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in m.parameters())
    m.zero_grad()
    assert all(p.grad is None for p in m.parameters())
    assert m.requires_grad_(False) is m and not m(tt.tensor([1])).requires_grad


def test_to_keeps_parameters_and_sharing():
    m = Net()
    before = list(m.parameters())
    m(tt.tensor([1])).sum().backward()
    assert m.double() is m
    assert all(a is b for a, b in zip(before, m.parameters()))
    assert all(p.dtype == p.grad.dtype == tt.float64 and p.requires_grad for p in before)
    assert m.head.weight is m.wte.weight
    assert m.seen.dtype == tt.float64 and m.cache.dtype == tt.int64  # integers stay
    assert m.half().scale.dtype == tt.float16 and m.float().scale.dtype == tt.float32
    assert m.to("cpu", tt.float64).scale.dtype == tt.float64
    with pytest.raises(tt.errors.DtypeError, match="int64"):
        m.to(tt.int64)


def test_parameter():
    x = tt.ones(2)
    p = nn.Parameter(x)
    assert isinstance(p, tt.Tensor) and p.requires_grad and p.is_leaf and p.array is x.array
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert type(p * 2) is tt.Tensor and not nn.Parameter(x, requires_grad=False).requires_grad
    y = p * 2
    assert nn.Parameter(y).is_leaf
    x.__class__ = nn.Parameter
    with pytest.raises(tt.errors.DtypeError):
        nn.Parameter(tt.arange(3))
