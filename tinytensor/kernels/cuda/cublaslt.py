"""cublasLt by ctypes: NVIDIA's library of matrix products, as far as gemm.py needs it.

CuPy refuses its own calls of cuBLAS while a CUDA graph is captured; these it does not see. Each
device has a `Context`: a handle of its own, and a workspace that never moves, so that a captured
graph may go on using it. Work must stay on one stream at a time: products share the workspace.

The numbers are those of cublasLt.h, cublas_api.h and library_types.h, the same from CUDA 12 to 13;
tests/cuda_on_cpu/test_cublaslt.py holds each against the headers and the real library.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from threading import Lock
from typing import Any

from ... import backend
from ...errors import DeviceError

WORKSPACE = 32 * 2**20  # bytes: what NVIDIA asks for on Hopper

# cublasStatus_t
CUBLAS_STATUS_SUCCESS = 0
CUBLAS_STATUS_INVALID_VALUE = 7
CUBLAS_STATUS_NOT_SUPPORTED = 15
# cudaDataType
CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_16BF = 0, 1, 2, 14
# cublasComputeType_t
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 70, 77
# cublasOperation_t
CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
# cublasLtMatmulDescAttributes_t
CUBLASLT_MATMUL_DESC_TRANSA = 3
CUBLASLT_MATMUL_DESC_TRANSB = 4
CUBLASLT_MATMUL_DESC_EPILOGUE = 7
CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12
# cublasLtEpilogue_t
CUBLASLT_EPILOGUE_DEFAULT = 1
CUBLASLT_EPILOGUE_RELU = 2
CUBLASLT_EPILOGUE_BIAS = 4
CUBLASLT_EPILOGUE_RELU_BIAS = 6
CUBLASLT_EPILOGUE_GELU = 32
CUBLASLT_EPILOGUE_GELU_BIAS = 36
CUBLASLT_EPILOGUE_GELU_AUX = 160
CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164
CUBLASLT_EPILOGUE_DGELU = 192
CUBLASLT_EPILOGUE_DGELU_BGRAD = 208
CUBLASLT_EPILOGUE_BGRADA = 256
CUBLASLT_EPILOGUE_BGRADB = 512
# cublasLtMatrixLayoutAttribute_t
CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT = 5
CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET = 6
# cublasLtMatmulPreferenceAttributes_t
CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1
CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
# cublasLtReductionScheme_t
CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2

# what is set, by descriptor: attribute -> its type
ATTRIBUTES: dict[str, dict[int, Any]] = {
    "MatmulDesc": {
        CUBLASLT_MATMUL_DESC_TRANSA: c_int32,
        CUBLASLT_MATMUL_DESC_TRANSB: c_int32,
        CUBLASLT_MATMUL_DESC_EPILOGUE: c_uint32,
        CUBLASLT_MATMUL_DESC_BIAS_POINTER: c_void_p,
        CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: c_void_p,
        CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: c_int64,
    },
    "MatrixLayout": {
        CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: c_int32,
        CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: c_int64,
    },
    "MatmulPreference": {
        CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: c_uint64,
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: c_uint32,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: c_uint32,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: c_uint32,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: c_uint32,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: c_uint32,
    },
}


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t"""

    _fields_ = [("data", c_uint64 * 8)]


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, and the bytes of workspace that it takes."""

    _fields_ = [
        ("algo", Algorithm), ("workspaceSize", c_size_t), ("state", c_int),
        ("wavesCount", ctypes.c_float), ("reserved", c_int * 4),
    ]  # fmt: skip


SIGNATURES: dict[str, list] = {
    "cublasLtCreate": [c_void_p],
    "cublasLtMatmulDescCreate": [c_void_p, c_int, c_int],
    "cublasLtMatrixLayoutCreate": [c_void_p, c_int, c_uint64, c_uint64, c_int64],
    "cublasLtMatmulPreferenceCreate": [c_void_p],
    **{f"cublasLt{kind}SetAttribute": [c_void_p, c_int, c_void_p, c_size_t] for kind in ATTRIBUTES},
    **{f"cublasLt{kind}Destroy": [c_void_p] for kind in ATTRIBUTES},
    # handle, operation, layouts of A, B, C, D, preference, how many, results, how many there are
    "cublasLtMatmulAlgoGetHeuristic": [*[c_void_p] * 7, c_int, c_void_p, c_void_p],
    # handle, operation, alpha, A, B with their layouts, beta, C, D with theirs, algorithm,
    # workspace, its bytes, stream
    "cublasLtMatmul": [*[c_void_p] * 14, c_size_t, c_void_p],
}


def load() -> Any:
    """The shared library, where CuPy finds its own; a DeviceError if there is none."""
    try:
        from cuda import pathfinder

        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: pathfinder's not-found
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DeviceError(
            f"cublasLt cannot be loaded ({reason}): pip install 'cupy-cuda13x[ctk]' (or "
            "'cupy-cuda12x[ctk]'), or install the CUDA toolkit"
        ) from error


@cache
def library() -> Any:
    """The library with the types of its functions."""
    found = load()
    for name, types in SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = types, c_int
    for name in ("cublasLtGetStatusName", "cublasLtGetStatusString"):
        function = getattr(found, name)
        function.argtypes, function.restype = [c_int], c_char_p
    return found


def check(status: int, what: str) -> None:
    """A DeviceError that says what was asked, and what the library answered, unless it worked."""
    if status != CUBLAS_STATUS_SUCCESS:
        lib = library()
        name, why = lib.cublasLtGetStatusName(status), lib.cublasLtGetStatusString(status)
        raise DeviceError(f"{what}: {name.decode()} ({status}), {why.decode()}")


class Descriptor:
    """One of the library's opaque objects, of a kind of ATTRIBUTES, destroyed with this one.

    A ctypes argument: functions take it as the pointer that it holds.
    """

    def __init__(self, kind: str, *args: int):
        lib = library()
        self.kind, self._as_parameter_ = kind, c_void_p()
        self._set = getattr(lib, f"cublasLt{kind}SetAttribute")
        self._destroy = getattr(lib, f"cublasLt{kind}Destroy")
        check(
            getattr(lib, f"cublasLt{kind}Create")(byref(self._as_parameter_), *args),
            f"cublasLt{kind}Create{args}",
        )

    def set(self, attribute: int, value: int) -> None:
        given = ATTRIBUTES[self.kind][attribute](value)
        status = self._set(self, attribute, byref(given), ctypes.sizeof(given))
        if status:
            check(status, f"cublasLt{self.kind}SetAttribute({attribute}, {value})")

    def __del__(self) -> None:
        if self._as_parameter_:
            self._destroy(self)


class Context:
    """What one device needs for products: a handle, the workspace, and the problems solved so far.

    plans  a key of gemm.py's -> its Plan
    lock   held while a plan's pointers are set and used
    """

    def __init__(self) -> None:
        self.handle = c_void_p()
        check(library().cublasLtCreate(byref(self.handle)), "cublasLtCreate")
        module = backend.cupy()
        self.workspace = module.empty(WORKSPACE, module.uint8)
        self.plans: dict[Any, Any] = {}
        self.lock = Lock()


contexts: dict[int, Context] = {}  # by device


def context(device: int) -> Context:
    """That of a device, which must be the current one. Made at its first product: before a capture
    of a CUDA graph there must have been one."""
    found = contexts.get(device)
    if found is None:
        found = contexts[device] = Context()
    return found
