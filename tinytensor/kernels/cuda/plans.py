"""What cublasLt is told of a product, and the algorithm that it chose, kept for the next time.

A plan is in BLAS's words: gemm.py says how ours are turned into them.
"""

from __future__ import annotations

from ctypes import byref, c_double, c_float, c_int
from typing import Any, NamedTuple

from . import cublaslt as lt
from .cublaslt import Descriptor

TYPES = {
    "float32": lt.CUDA_R_32F, "float64": lt.CUDA_R_64F, "float16": lt.CUDA_R_16F,
    "bfloat16": lt.CUDA_R_16BF,
}  # fmt: skip
MOST_PLANS = 4096  # kept per device; the oldest goes first


class Problem(NamedTuple):
    """All that the choice of an algorithm depends on. Sizes and strides count numbers; alignments,
    of a, b, out, bias (or sums) and aux, bytes."""

    dtype: str
    out_dtype: str
    tf32: bool
    shape: tuple[int, int, int]  # M, N, K
    batch: int
    a: tuple[bool, int, int]  # transposed, ld, stride
    b: tuple[bool, int, int]
    out: tuple[int, int]  # ld, stride
    epilogue: int
    aux_ld: int
    alignment: tuple[int, ...]


class Plan:
    """cublasLt's description of a Problem, and the algorithm it chose."""

    def __init__(self, p: Problem, context: lt.Context, pointers: tuple):
        M, N, K = p.shape
        double = p.dtype == "float64"
        self.scalar: Any = c_double if double else c_float
        compute = lt.CUBLAS_COMPUTE_64F if double else lt.CUBLAS_COMPUTE_32F
        if p.tf32:
            compute = lt.CUBLAS_COMPUTE_32F_FAST_TF32
        kind, out_kind = TYPES[p.dtype], TYPES[p.out_dtype]
        self.operation = Descriptor(
            "MatmulDesc", compute, lt.CUDA_R_64F if double else lt.CUDA_R_32F
        )
        self.operation.set(lt.CUBLASLT_MATMUL_DESC_TRANSA, int(p.b[0]))
        self.operation.set(lt.CUBLASLT_MATMUL_DESC_TRANSB, int(p.a[0]))
        if p.epilogue != lt.CUBLASLT_EPILOGUE_DEFAULT:
            self.operation.set(lt.CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue)
        if p.aux_ld:
            self.operation.set(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.aux_ld)
        self.point(*pointers)  # the heuristic looks at their alignment

        def layout(kind: int, rows: int, columns: int, ld: int, stride: int) -> Descriptor:
            made = Descriptor("MatrixLayout", kind, rows, columns, ld)
            if p.batch > 1:
                made.set(lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, p.batch)
                made.set(lt.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride)
            return made

        self.A = layout(kind, *((K, N) if p.b[0] else (N, K)), *p.b[1:])
        self.B = layout(kind, *((M, K) if p.a[0] else (K, M)), *p.a[1:])
        self.D = layout(out_kind, N, M, *p.out)
        self.algorithm = self._chosen(p, context)

    def point(self, vector: int, aux: int) -> None:
        """The addresses of the bias, or of the sums, and of aux."""
        if vector:
            self.operation.set(lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector)
        if aux:
            self.operation.set(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux)

    def _chosen(self, p: Problem, context: lt.Context) -> Any:
        """The algorithm, None if there is none for this epilogue. Sums of parts of K are not
        rounded to half precision."""
        preference = Descriptor("MatmulPreference")
        preference.set(lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, lt.WORKSPACE)
        preference.set(
            lt.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            lt.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
        )
        a, b, out, *_ = p.alignment
        preference.set(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b)
        preference.set(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a)
        preference.set(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out)
        preference.set(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out)
        best, count = lt.Heuristic(), c_int()
        status = lt.library().cublasLtMatmulAlgoGetHeuristic(
            context.handle, self.operation, self.A, self.B, self.D, self.D, preference, 1,
            byref(best), byref(count),
        )  # fmt: skip
        if status == lt.CUBLAS_STATUS_SUCCESS and count.value and best.state == status:
            return best.algo
        if p.epilogue != lt.CUBLASLT_EPILOGUE_DEFAULT and status in (
            lt.CUBLAS_STATUS_SUCCESS, lt.CUBLAS_STATUS_NOT_SUPPORTED,
            lt.CUBLAS_STATUS_INVALID_VALUE,
        ):  # fmt: skip
            return None
        lt.check(status or lt.CUBLAS_STATUS_NOT_SUPPORTED, f"no algorithm for {p}")


def plan_of(problem: Problem, context: lt.Context, pointers: tuple) -> Plan:
    """The plan for a problem, made if it is new; context.lock is held."""
    plan = context.plans.get(problem)
    if plan is None:
        if len(context.plans) >= MOST_PLANS:
            del context.plans[next(iter(context.plans))]
        plan = context.plans[problem] = Plan(problem, context, pointers)
    return plan


def without_algorithm() -> list[Problem]:
    """The problems so far whose epilogue cublasLt has no algorithm for: done in several steps."""
    return [
        problem
        for context in lt.contexts.values()
        for problem, plan in context.plans.items()
        if plan.algorithm is None
    ]
