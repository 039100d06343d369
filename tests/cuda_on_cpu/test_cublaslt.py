"""What gemm tells cublasLt, held against NVIDIA's headers and the library itself.

Both come with `pip install nvidia-cublas`; neither needs a GPU. Descriptors can be made and filled
in without one, so the library itself says which attributes it has and how many bytes they take.
"""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinytensor.errors import DeviceError
from tinytensor.kernels.cuda import cublaslt, gemm, plans

from . import cublas

NUMBERS = {
    name: value for name, value in vars(cublaslt).items() if name.startswith(("CUBLAS", "CUDA_R"))
}
# of the headers that those of cublasLt include, these need more of the CUDA toolkit
STUBS = {
    "driver_types.h": "typedef struct CUstream_st* cudaStream_t;",
    "cuComplex.h": "struct float2; typedef float2 cuComplex; typedef float2 cuDoubleComplex;",
    "cuda_fp16.h": "struct __half;", "cuda_bf16.h": "struct __nv_bfloat16;",
}  # fmt: skip
PROGRAM = """
#include <cstddef>
#include <cstdio>
#include <cublasLt.h>
template <class F> struct Signature;
template <class R, class... A> struct Signature<R(A...)> {
    static void show(const char* name) {
        std::printf("%s %zu", name, sizeof(R));
        (std::printf(" %zu", sizeof(A)), ...);
        std::puts("");
    }
};
int main() {
    typedef cublasLtMatmulHeuristicResult_t H;
    std::printf("sizes %zu %zu %zu %zu\\n", sizeof(cublasLtMatmulAlgo_t), sizeof(H),
                offsetof(H, workspaceSize), offsetof(H, state));
    LINES
}
"""


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """What a C++ compiler reads in the headers: {name: [numbers]}."""
    found = [Path(p).glob("nvidia/**/cublasLt.h") for p in sys.path if p]
    folder = next((h.parent for each in found for h in each), None)
    if folder is None or shutil.which("g++") is None:
        pytest.skip("no cublasLt.h (pip install nvidia-cublas), or no g++")
    lines = [f'std::printf("{name} %lld\\n", (long long){name});' for name in NUMBERS]
    lines += [f'Signature<decltype({n})>::show("{n}");' for n in cublaslt.SIGNATURES]
    path = tmp_path_factory.mktemp("headers")
    (path / "a.cpp").write_text(PROGRAM.replace("LINES", "\n    ".join(lines)))
    for name, text in STUBS.items():
        (path / name).write_text(text)
    for name in ("cublasLt.h", "cublas_api.h", "library_types.h"):
        (path / name).symlink_to(next(folder.parents[1].glob(f"**/{name}")))
    command = ["g++", "-std=c++17", "-I.", "a.cpp", "-o", "a"]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    text = subprocess.run(["./a"], cwd=path, capture_output=True, text=True, check=True).stdout
    return {name: [int(n) for n in rest] for name, *rest in map(str.split, text.splitlines())}


def test_numbers(headers):
    assert {name: headers[name] for name in NUMBERS} == {n: [v] for n, v in NUMBERS.items()}


def test_structures(headers):
    for algorithm, result in ((cublaslt.Algorithm, cublaslt.Heuristic), (None, cublas.Result)):
        assert [
            ctypes.sizeof(algorithm or ctypes.c_uint64 * 8), ctypes.sizeof(result),
            result.workspaceSize.offset, result.state.offset,
        ] == headers["sizes"]  # fmt: skip


def test_signatures(headers):
    """Ours and the stand-in's have as many parameters, of the same widths."""
    own = cublas.Library()
    for name, types in cublaslt.SIGNATURES.items():
        expected = headers[name][1:]
        assert [ctypes.sizeof(t) for t in types] == expected, name
        assert [ctypes.sizeof(t) for t in getattr(own, name).argtypes] == expected, name


# ------------------------------------------------------------------------------ the library


@pytest.fixture
def library(monkeypatch):
    """The real one, without a GPU."""
    try:
        cublaslt.load()
    except DeviceError as error:
        pytest.skip(str(error))
    cublaslt.library.cache_clear()
    yield cublaslt.library()
    cublaslt.library.cache_clear()


CREATED = {"MatmulDesc": (68, 0), "MatrixLayout": (14, 5, 7, 5), "MatmulPreference": ()}


@pytest.mark.parametrize("kind", cublaslt.ATTRIBUTES)
def test_attributes(library, kind):
    """Each can be set with the type it is given here, and no other size; the stand-in agrees."""
    made = cublaslt.Descriptor(kind, *CREATED[kind])
    standin = cublas.Library()
    other = ctypes.c_void_p()
    assert getattr(standin, f"cublasLt{kind}Create")(ctypes.addressof(other), *CREATED[kind]) == 0
    room = (ctypes.c_uint64 * 4)(1)
    assert set(cublas.ATTRIBUTES[kind]) == set(cublaslt.ATTRIBUTES[kind])
    for attribute, type_ in cublaslt.ATTRIBUTES[kind].items():
        for size in (1, 2, 4, 8, 16):
            status = made._set(made, attribute, ctypes.byref(room), size)
            assert (status == 0) == (size == ctypes.sizeof(type_)), (attribute, size)
            again = getattr(standin, f"cublasLt{kind}SetAttribute")
            assert again(other, attribute, ctypes.addressof(room), size) == status


def test_a_plan_is_accepted(library, monkeypatch):
    """All that a Plan sets, in real descriptors; only the search for an algorithm is missing."""
    monkeypatch.setattr(plans.Plan, "_chosen", lambda self, p, context: None)
    for dtype, out_dtype, batch in (("bfloat16", "float32", 1), ("float64", "float64", 6)):
        for epilogue in gemm.EPILOGUES.values():
            problem = plans.Problem(
                dtype, out_dtype, False, (3, 5, 7), batch, (True, 8, 60), (False, 5, 0), (5, 15),
                epilogue, 8, (16, 16, 16, 16, 16),
            )  # fmt: skip
            plans.Plan(problem, None, (1024, 2048))


def test_without_a_gpu_the_library_says_so(library, monkeypatch):
    if subprocess.run("ls /dev/nvidia0", shell=True, capture_output=True).returncode == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=r"cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED \(1\)"):
        cublaslt.Context()


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(DeviceError, match=r"cublasLt cannot be loaded .*pip install"):
        cublaslt.load()
