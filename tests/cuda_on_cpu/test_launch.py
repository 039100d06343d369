"""kernels.cuda.launch: what it compiles, and what it refuses before a GPU sees it."""

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import random
from tinytensor.kernels.cuda.launch import (
    FOLDER,
    STORAGE,
    TYPES,
    Parameter,
    entries,
    kernel,
    source,
    storages,
)

from . import nvrtc, shim
from .schedules import dtype_of

SOURCES = sorted(path.stem for path in FOLDER.glob("*.cu"))


def test_parameters_are_read_from_the_source():
    text = 'extern "C" __global__ void __launch_bounds__(256) f(real* __restrict__ out,\n const '
    text += "float* x, unsigned long long n, float eps) {}"
    assert entries(text) == {
        "f": [
            Parameter("out", "real", True, False), Parameter("x", "float", True, True),
            Parameter("n", "unsigned long long", False, False),
            Parameter("eps", "float", False, False),
        ]
    }  # fmt: skip


@pytest.mark.parametrize("file", SOURCES)
def test_they_are_those_that_are_compiled(file):
    """The parameters that the launcher reads in a source are those that the compiler sees."""
    storage = storages(file)[-1]
    defines = [f"-D{d}" for d in nvrtc.variants(file)[0]]
    module = shim.Module(source(file), (f"-Dreal={storage}", *defines))
    (real,) = (name for name, type in STORAGE.items() if type == storage)
    assert entries(source(file))
    for name, parameters in entries(source(file)).items():
        compiled = module.get_function(name).parameters
        assert len(compiled) == len(parameters), name
        for mine, theirs in zip(parameters, compiled):
            known = {**TYPES, "real": real}.get(mine.type)
            assert theirs.dtype == (known and dtype_of(known)), (name, mine, theirs)
            assert theirs.pointer == mine.pointer, (name, mine, theirs)
            assert theirs.const == mine.const or not mine.pointer, (name, mine, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_kernel_runs(cuda, dtype):
    import cupy

    x = np.linspace(-4, 4, 1000, dtype=np.float32)
    want = 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))
    a = cupy.asarray(x).astype(dtype)
    out = cupy.empty_like(a)
    kernel("activation", "gelu_tanh_forward")((4,), (256,), out, a, a.size)
    tolerance = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(out.astype("float32").get(), want, tolerance, tolerance)


def test_what_is_refused(cuda):
    import cupy

    f = kernel("activation", "gelu_tanh_forward")
    a = cupy.ones((4, 4), "float32")
    for args, error, words in (
        ((a, a), tt.errors.ArgumentError, "got 2 arguments"),
        ((a, a.astype("float16"), 16), tt.errors.DtypeError, "x must be float32, got float16"),
        ((a.astype("float64"), a, 16), tt.errors.DtypeError, "out must be one of"),
        ((a, a.T, 16), tt.errors.ArgumentError, "x (4, 4) must be contiguous"),
    ):
        with pytest.raises(error, match="gelu_tanh_forward") as raised:
            f((1,), (32,), *args)
        assert words in str(raised.value)
    f((0,), (32,), a, a, 0)  # an empty launch is none
    norms = kernel("adamw", "total_norm")
    with pytest.raises(tt.errors.DtypeError, match="norm: partial must be float32, got int32"):
        norms((1,), (32,), a[0, 0], a.astype("int32"), 16)
    if tt.backend.cuda_device_count() > 1:
        with cupy.cuda.Device(1):
            there = cupy.ones((4, 4), "float32")
        with pytest.raises(tt.errors.DeviceError, match="x is on cuda:1, the kernel would run"):
            f((1,), (32,), a, there, 16)


def test_the_words_of_philox_are_those_of_the_cpu():
    text = (FOLDER / "device.h").read_text() + (
        'extern "C" __global__ void words(unsigned long long* out, unsigned long long seed, '
        "unsigned long long block) {\n"
        "  Words w = philox(seed, block + threadIdx.x);\n"
        "  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = w.at[i];\n}\n"
    )
    out = np.zeros(128, np.uint64)
    u = np.uint64
    shim.Module(text, ("-Dreal=float",)).get_function("words")((1,), (32,), (out, u(7), u(5)))
    assert (out == random.words(np, random.Key(7, 5), 128)).all()


def test_no_array_is_a_null_pointer(cuda):
    """None would be 0xffffffff to CuPy, which the stand-in refuses."""
    import cupy

    out = cupy.empty(4, "uint64")
    kernel("random", "words")((1,), (32,), out, None, 7, 5, 4)
    assert (out.get() == random.words(np, random.Key(7, 5), 4)).all()
    function = kernel("random", "words")._function("float", 0)
    with pytest.raises(TypeError, match="0xffffffff"):
        function((1,), (32,), (out, None, np.uint64(7), np.uint64(5), np.int64(4)))
