"""Devices without a GPU: what is said where CUDA is missing, and when devices are mixed."""

import sys
from types import SimpleNamespace

import pytest

import tinytensor as tt
from tinytensor import backend
from tinytensor.autograd import wrap


class CudaArray:
    """As much of a cupy.ndarray as it takes to be refused."""

    def __init__(self, index, *shape):
        self.device, self.shape, self.ndim = SimpleNamespace(id=index), shape, len(shape)
        self.dtype, self.base = tt.float32, None


@pytest.mark.parametrize("op", [tt.add, tt.matmul, tt.maximum, lambda x, y: tt.cat([x, y])])
@pytest.mark.parametrize("order", [1, -1])
def test_mixed_devices_name_both_operands(op, order):
    pair = [tt.ones(2, 2), wrap(CudaArray(1, 2, 2))][::order]
    with pytest.raises(tt.errors.DeviceError) as caught:
        op(*pair)
    message = str(caught.value)
    assert "is on cpu" in message and "is on cuda:1" in message and ".to('c" in message


def test_two_gpus_are_two_devices():
    with pytest.raises(tt.errors.DeviceError, match="x is on cuda:0, y is on cuda:1"):
        wrap(CudaArray(0, 2)) * wrap(CudaArray(1, 2))


def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # the import fails
    backend.cupy.cache_clear()


def test_without_cupy_one_sentence_says_what_to_install(monkeypatch):
    no_cupy(monkeypatch)
    for ask in (
        lambda: tt.zeros(2, device="cuda"),
        lambda: tt.ones(2).to("cuda"),
        lambda: tt.ones(2).cuda(),
        lambda: tt.tensor([1.0], device="cuda:1"),
        lambda: tt.nn.Linear(2, 2).to("cuda"),
    ):
        with pytest.raises(tt.errors.DeviceError) as caught:
            ask()
        message = str(caught.value)
        assert "CuPy is not installed" in message and "pip install" in message
        assert "\n" not in message
    assert not backend.cuda_is_available()
    assert backend.resolve("auto") == "cpu"


def fake_cupy(monkeypatch, **runtime):
    class Problem(Exception):
        pass

    fake = SimpleNamespace(
        __version__="14.2.0",
        cuda=SimpleNamespace(
            runtime=SimpleNamespace(CUDARuntimeError=Problem, **runtime),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            device=SimpleNamespace(get_cublas_handle=lambda: 1),
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    backend.cupy.cache_clear()
    return Problem


def test_without_a_driver(monkeypatch):
    problem = fake_cupy(monkeypatch, driverGetVersion=lambda: 0)

    def count():
        raise problem("cudaErrorInsufficientDriver")

    sys.modules["cupy"].cuda.runtime.getDeviceCount = count
    assert "no NVIDIA driver" in backend.cuda_problem()


def test_without_a_device(monkeypatch):
    fake_cupy(monkeypatch, getDeviceCount=lambda: 0, driverGetVersion=lambda: 13000)
    assert "CUDA_VISIBLE_DEVICES" in backend.cuda_problem()


def test_without_nvrtc(monkeypatch):
    fake_cupy(monkeypatch, getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000)

    def missing():
        raise RuntimeError("libnvrtc.so.13 not found")

    sys.modules["cupy"].cuda.nvrtc.getVersion = missing
    assert "NVRTC cannot be loaded (libnvrtc.so.13 not found)" in backend.cuda_problem()
    assert "pip install" in backend.cuda_problem()


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1:2", "cuda:-1", ""])
def test_unknown_devices_are_named(name):
    with pytest.raises(tt.errors.DeviceError, match="is not one of 'cpu', 'cuda', 'cuda:N'"):
        tt.zeros(1, device=name)


def test_devices_compare_with_their_strings():
    device = tt.zeros(1).device
    assert device == "cpu" and device != "cuda" and device == tt.device("cpu")
    assert str(tt.device("cuda:1")) == "cuda:1" and tt.device("cuda", 1) == "cuda:1"
    assert repr(tt.device("cuda:1")) == "device(type='cuda', index=1)"
    assert device != "something else" and hash(tt.device("cuda")) == hash(tt.device("cuda:0"))


def test_tt_cuda_answers_without_a_gpu(monkeypatch):
    no_cupy(monkeypatch)
    assert tt.cuda.is_available() is False and tt.cuda.device_count() == 0
    for ask in (tt.cuda.current_device, tt.cuda.synchronize, tt.cuda.empty_cache):
        with pytest.raises(tt.errors.DeviceError, match="CuPy is not installed"):
            ask()
