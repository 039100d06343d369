"""Devices: their names, and what is said where CUDA is missing or incomplete.

What runs on a GPU, and what is said when devices are mixed: tests/cuda_on_cpu.
"""

import sys

import pytest
from cuda_on_cpu.standin import cupy as standin

import tinytensor as tt
from tinytensor import backend


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


@pytest.fixture
def runtime(monkeypatch):
    """CuPy is there; the test takes something away from what it stands on."""
    monkeypatch.setitem(sys.modules, "cupy", standin)
    backend.cupy.cache_clear()
    yield standin.cuda.runtime
    backend.cupy.cache_clear()


def raises(error):
    def call():
        raise error

    return call


def test_without_a_driver(runtime, monkeypatch):
    missing = runtime.CUDARuntimeError("cudaErrorInsufficientDriver")
    monkeypatch.setattr(runtime, "getDeviceCount", raises(missing))
    monkeypatch.setattr(runtime, "driverGetVersion", lambda: 0)
    assert "no NVIDIA driver" in backend.cuda_problem()


def test_with_a_driver_that_is_too_old(runtime, monkeypatch):
    missing = runtime.CUDARuntimeError("cudaErrorInsufficientDriver")
    monkeypatch.setattr(runtime, "getDeviceCount", raises(missing))
    monkeypatch.setattr(runtime, "driverGetVersion", lambda: 11000)
    assert "the CUDA driver (11000) cannot be used" in backend.cuda_problem()


def test_without_a_device(runtime, monkeypatch):
    monkeypatch.setattr(runtime, "getDeviceCount", lambda: 0)
    assert "CUDA_VISIBLE_DEVICES" in backend.cuda_problem()


@pytest.mark.parametrize(
    "name, place, function",
    [("NVRTC", "nvrtc", "getVersion"), ("cuBLAS", "device", "get_cublas_handle")],
)
def test_without_a_library(runtime, monkeypatch, name, place, function):
    missing = raises(RuntimeError("libsomething.so.13 not found"))
    monkeypatch.setattr(getattr(standin.cuda, place), function, missing)
    assert f"{name} cannot be loaded (libsomething.so.13 not found)" in backend.cuda_problem()
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
