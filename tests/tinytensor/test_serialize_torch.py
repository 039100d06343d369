"""PyTorch's files, read without PyTorch: torch 2.13 writes them, and says what is in them."""

import argparse
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tinytensor.errors import CheckpointError
from tinytensor.serialize import BFLOAT16, Stub, load_torch, module_state, widen

FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
          torch.uint16, torch.uint32, torch.uint64]  # fmt: skip


def equal(array, tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        assert array.dtype == BFLOAT16
        array, tensor = widen(array), tensor.float()
    np.testing.assert_array_equal(array, tensor.numpy(), strict=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("torch") / "x.pt"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.again = self.first  # one module under two names
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False), nn.Dropout(0.1))
        self.register_buffer("mask", torch.tril(torch.ones(3, 3)))
        self.register_buffer("passing", torch.ones(2), persistent=False)


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(Net, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Net", Net, raising=False)
    return Net()


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path, dtype, how):
    x = (torch.randn(3, 4, dtype=torch.float64) * 50).abs().to(dtype)
    torch.save({"x": x, "t": x.T, "one": x[1, 2], "none": x[:0]}, tmp_path / "x.pt", **FORMATS[how])
    found = load_torch(tmp_path / "x.pt")
    for name, expected in {"x": x, "t": x.T, "one": x[1, 2], "none": x[:0]}.items():
        equal(found[name], expected)


@given(data=st.data())
def test_any_view_of_a_shared_storage(file, data):
    base = torch.randn(4, 5, 6)
    views = {}
    for i in range(data.draw(st.integers(1, 4))):
        view = base
        for _ in range(data.draw(st.integers(0, 3))):
            if not view.ndim:
                break
            dim = data.draw(st.integers(0, view.ndim - 1))
            start = data.draw(st.integers(0, view.shape[dim]))
            view = data.draw(st.sampled_from([
                view.transpose(0, dim), view.narrow(dim, start, view.shape[dim] - start),
                view[..., ::2], view.flip(0) if view.ndim else view,
                view.select(dim, 0) if view.shape[dim] else view,
            ]))  # fmt: skip
        views[i] = view
    torch.save(views, file, **data.draw(st.sampled_from(list(FORMATS.values()))))
    found = load_torch(file)
    for i, view in views.items():
        equal(found[i], view)


@pytest.mark.parametrize("how", FORMATS)
def test_a_training_checkpoint(tmp_path, net, how):
    """nanoGPT's shape: weights, an optimizer's moments, settings, a Namespace, odd values."""
    optimizer = torch.optim.AdamW(net.parameters())
    net.rest(net.first(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    saved = {
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "iter_num": 7,
        "args": argparse.Namespace(lr=0.1), "dtype": torch.bfloat16, "size": torch.Size([2, 3]),
        "device": torch.device("cpu"), "parameter": net.first.weight, "nested": [({"a": {1, 2}},)],
    }  # fmt: skip
    torch.save(saved, tmp_path / "ckpt.pt", **FORMATS[how])
    found = load_torch(tmp_path / "ckpt.pt")
    assert list(found["model"]) == list(saved["model"])
    for name, tensor in saved["model"].items():
        equal(found["model"][name], tensor)
    moments = saved["optimizer"]["state"]
    for i, state in moments.items():
        for name, tensor in state.items():
            equal(found["optimizer"]["state"][i][name], tensor)
    groups = found["optimizer"]["param_groups"]
    assert groups == saved["optimizer"]["param_groups"]
    assert found["iter_num"] == 7 and found["nested"] == saved["nested"]
    assert found["args"].name == "argparse.Namespace" and found["args"].state == {"lr": 0.1}
    assert (found["size"], found["device"]) == ((2, 3), "cpu")
    equal(found["parameter"], net.first.weight)


@pytest.mark.parametrize("how", [*FORMATS, *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_a_pickled_module_of_a_class_that_is_not_here(tmp_path, net, how):
    net.rest[1].bfloat16()
    path = tmp_path / "model-01.pkl"
    if how in FORMATS:
        torch.save(net, path, **FORMATS[how])
    else:
        path.write_bytes(pickle.dumps(net, how))
    found = load_torch(path)
    assert isinstance(found, Stub) and found.name == "__main__.Net"
    weights = module_state(found)
    assert weights.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        equal(weights[name], tensor)


def test_reading_needs_no_torch(tmp_path, net):
    import subprocess

    torch.save(net.state_dict(), tmp_path / "x.pt")
    code = ("import sys; sys.modules['torch'] = None\n"
            "from tinytensor.serialize import load_torch\n"
            f"print(*load_torch({str(tmp_path / 'x.pt')!r}))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(net.state_dict())


def test_weights_of_a_zip_are_the_mapped_file(tmp_path):
    torch.save({"x": torch.ones(1000)}, tmp_path / "x.pt")
    array = load_torch(tmp_path / "x.pt")["x"]
    assert not array.flags.owndata and not array.flags.writeable


def rezip(path, change, compression=zipfile.ZIP_STORED):
    """The zip again, its entries as `change(name, data)` would have them."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in entries.items():
            if (data := change(name, data)) is not None:
                new.writestr(name, data)


def test_big_endian_files(tmp_path):
    """As torch on such a machine writes them: storages turned around, byteorder `big`."""
    values = {"f": torch.randn(5), "b": torch.randn(5).bfloat16(), "i": torch.arange(5)}
    torch.save(values, tmp_path / "x.pt")
    sizes = iter([4, 2, 8])

    def turn(name, data):
        if name.endswith("byteorder"):
            return b"big"
        if "/data/" in name and "serialization_id" not in name:
            return np.frombuffer(data, f"u{next(sizes)}").byteswap().tobytes()
        return data

    rezip(tmp_path / "x.pt", turn)
    found = load_torch(tmp_path / "x.pt")
    for name, tensor in values.items():
        np.testing.assert_array_equal(widen(found[name]), tensor.float() if name == "b" else tensor)


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", FORMATS)
def test_code_inside_of_a_torch_file_is_refused(tmp_path, how):
    mark = tmp_path / "pwned"
    torch.save({"w": torch.ones(2), "x": Evil(mark)}, tmp_path / "x.pt", **FORMATS[how])
    with pytest.raises(CheckpointError, match=r"refuses (posix|nt)\.system"):
        load_torch(tmp_path / "x.pt")
    assert not mark.exists()


def test_code_inside_of_a_storage_is_refused(tmp_path):
    """_load_from_bytes holds a file of its own; it is read by the same rules."""
    mark = tmp_path / "pwned"
    inner = pickle.dumps(Evil(mark))
    outer = (b"\x80\x04\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93B"
             + struct.pack("<I", len(inner)) + inner + b"\x85R.")  # fmt: skip
    (tmp_path / "x.pkl").write_bytes(outer)
    with pytest.raises(CheckpointError, match=r"\.system"):
        load_torch(tmp_path / "x.pkl")
    assert not mark.exists()


def tensor_call(size, stride, offset=0):
    """A zip whose only tensor says that of a storage of 4 numbers."""

    def edit(name, data):
        if not name.endswith("data.pkl"):
            return data
        old = b"K\x00K\x04\x85q\x08K\x01\x85q\t"
        assert data.count(old) == 1
        number = lambda n: b"\x8a\x08" + struct.pack("<q", n)
        sizes = lambda ns: b"(" + b"".join(map(number, ns)) + b"t"
        return data.replace(old, number(offset) + sizes(size) + sizes(stride))

    return edit


def entry(end, new):
    return lambda name, data: new(data) if name.endswith(end) else data


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(np.float32([1, 2, 3, 4]).tobytes())] ^= 1
    path.write_bytes(data)


ZIPS = {
    "beyond its storage": (tensor_call([5], [1]), "does not fit its storage"),
    "offset beyond": (tensor_call([4], [1], 1), "does not fit its storage"),
    "overflow": (tensor_call([2**40, 2**40], [2**40, 1]), "does not fit its storage"),
    "expanded bomb": (tensor_call([2**20, 2**20], [0, 0]), "its storage is smaller"),
    "negative stride": (tensor_call([2], [-1]), "sizes"),
    "dims that differ": (tensor_call([2, 2], [1]), "does not fit its storage"),
    "storage cut": (entry("data/0", lambda d: d[:-1]), "fewer than 4"),
    "storage gone": (entry("data/0", lambda d: None), "lacks the entry data/0"),
    "pickle cut": (entry("data.pkl", lambda d: d[:-5]), "damaged"),
    "pickle gone": (entry("data.pkl", lambda d: None), "no single data.pkl"),
    "unknown storage": (entry("data.pkl", lambda d: d.replace(b"FloatStorage", b"QuuxsStorage")),
                        "refuses storages of type torch.QuuxsStorage"),
    "other call": (entry("data.pkl", lambda d: d.replace(b"_rebuild_tensor_v2",
                                                         b"_rebuild_qtensor_x")),
                   "refuses to call torch._utils._rebuild_qtensor_x"),
    "a function of torch": (entry("data.pkl", lambda d: d.replace(
        b"torch._utils\n_rebuild_tensor_v2", b"torch\nhub.load")),
        "refuses to call torch.hub.load"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_malformed_zips_are_answered(tmp_path, name):
    change, words = ZIPS[name]
    path = tmp_path / "x.pt"
    torch.save({"w": torch.tensor([1.0, 2, 3, 4])}, path)
    rezip(path, change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_torch(path)
    assert str(path) in str(caught.value)


def test_a_flipped_bit_a_cut_a_compressed_zip_or_a_program(tmp_path):
    path = tmp_path / "x.pt"
    saved = {"w": torch.tensor([1.0, 2, 3, 4])}
    torch.save(saved, path)
    flip(path)
    with pytest.raises(CheckpointError, match="data/0 is damaged: its checksum"):
        load_torch(path)
    torch.save(saved, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged zip"):
        load_torch(path)
    torch.save(saved, path)
    rezip(path, lambda name, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        load_torch(path)
    torch.save(saved, path)
    with zipfile.ZipFile(path, "a") as program:
        program.writestr("x/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="is TorchScript, a program"):
        load_torch(path)


def test_a_legacy_file_that_is_cut_or_lies(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(9), "v": torch.ones(3)}, path, **FORMATS["legacy"])
    good = path.read_bytes()
    for data, words in {
        good[:-1]: "truncated or damaged at storage",
        good + b"x": "1 bytes follow",
        good[: good.rindex(b"]")]: "damaged",
        good.replace(struct.pack("<q", 9), struct.pack("<q", 8)): "at storage",
        good.replace(b"K\tN", b"J\xff\xff\xff\x7fN"): "larger than the file",
    }.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=words):
            load_torch(path)


def test_a_module_inside_of_itself(tmp_path, net):
    net.rest.add_module("loop", net.rest)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(net))
    with pytest.raises(CheckpointError, match="a module inside of itself"):
        module_state(load_torch(tmp_path / "x.pkl"))
    part = nn.Linear(1, 1)
    for _ in range(40):  # 2^40 paths
        part = nn.ModuleDict({"a": part, "b": part})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(part))
    with pytest.raises(CheckpointError, match="one of too many"):
        module_state(load_torch(tmp_path / "x.pkl"))
