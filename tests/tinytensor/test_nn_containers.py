"""Sequential, ModuleList, ModuleDict, ParameterList."""

from collections import OrderedDict

import pytest

import tinytensor as tt
from tinytensor import nn


def layers(n=4):
    return [nn.Linear(2, 2) for _ in range(n)]


def test_module_list_is_a_list():
    a = layers()
    m = nn.ModuleList(a)
    assert len(m) == 4 and list(m) == a and m[1] is a[1] and m[-1] is a[3] and a[2] in m
    assert type(m[1:3]) is nn.ModuleList and list(m[1:3]) == a[1:3] and list(m[::-1]) == a[::-1]
    new = layers(1)[0]
    m[-1] = new
    assert list(m) == [*a[:3], new]
    m.insert(1, a[3])
    assert list(m) == [a[0], a[3], a[1], a[2], new]
    del m[0]
    assert list(m) == [a[3], a[1], a[2], new]
    m.append(a[0]).extend(layers(2))
    assert len(m) == 7 and list(m.state_dict())[:2] == ["0.weight", "0.bias"]
    assert [n for n, _ in m.named_children()] == [str(i) for i in range(7)]
    m += layers(1)
    assert len(m) == 8 and len(m + layers(2)) == 10
    del m[2:]
    assert [n for n, _ in m.named_children()] == ["0", "1"]
    assert list(nn.ModuleList()) == [] and repr(nn.ModuleList()) == "ModuleList()"


def test_more_than_ten_stay_in_order():
    a = layers(12)
    assert list(nn.ModuleList(a)) == a
    assert list(nn.Sequential(*a)) == a


def test_nested_lists_are_found():
    m = nn.ModuleList([nn.ModuleList(layers(2)), nn.ModuleList([nn.Sequential(*layers(1))])])
    assert len(list(m.parameters())) == 6
    assert "1.0.0.bias" in m.state_dict()


def test_sequential():
    a = layers()
    m = nn.Sequential(*a)
    x = tt.randn(3, 2)
    expected = a[3](a[2](a[1](a[0](x))))
    assert (m(x) == expected).all()
    assert (m[2:](m[:2](x)) == expected).all()
    assert (m[:2] + m[2:])(x).shape == (3, 2)
    assert list(m[2:].state_dict()) == ["2.weight", "2.bias", "3.weight", "3.bias"]  # as PyTorch's
    m.append(nn.ReLU())
    assert (m(x) >= 0).all() and len(m) == 5
    assert (nn.Sequential()(x) == x).all()


def test_sequential_by_name():
    m = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), act=nn.ReLU()))
    assert list(m.state_dict()) == ["fc.weight", "fc.bias"]
    assert m.fc is m[0] and type(m[1:]) is nn.Sequential and m[1:].act is m.act
    m[0] = nn.Linear(2, 5)
    assert m.fc.out_features == 5


def test_module_dict():
    m = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()})
    assert list(m) == ["a", "b"] and len(m) == 2 and "a" in m and m["b"] is m.b
    m["c"] = nn.Tanh()
    assert m.pop("b") is not None and list(m.keys()) == ["a", "c"]
    del m["c"]
    assert [k for k, _ in m.items()] == ["a"] and list(m.state_dict()) == ["a.weight", "a.bias"]
    m.update([("d", nn.ReLU())])
    assert len(list(m.values())) == 2
    with pytest.raises(KeyError):
        m["training"]
    with pytest.raises(ValueError, match="taken by the class"):
        m["keys"] = nn.ReLU()


def test_parameter_list():
    m = nn.ParameterList([tt.ones(2), nn.Parameter(tt.zeros(3))])
    assert [n for n, _ in m.named_parameters()] == ["0", "1"]
    m.append(tt.ones(1))
    assert len(m) == 3 and isinstance(m[2], nn.Parameter) and type(m[:2]) is nn.ParameterList
    assert repr(m).splitlines()[1] == "  (0): Parameter (2,) of float32"


def test_what_does_not_belong():
    with pytest.raises(TypeError, match="item 1 is a function, not a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    with pytest.raises(TypeError, match="not a Module"):
        nn.ModuleList(layers(1))[0] = 3
    with pytest.raises(IndexError, match="index 5 is out of range: ModuleList of 4"):
        nn.ModuleList(layers())[5]
    a = nn.ModuleList(layers())
    with pytest.raises(TypeError):
        a.append(3)
    assert len(a) == 4  # untouched
