"""cublasLt on the CPU: the C functions that tinytensor calls, strict where the library is lenient.

They are C functions, so arguments come as C would pass them: a wrong width arrives as a wrong
number. Every descriptor is looked into; what NVIDIA's documentation forbids is answered with the
status that it names, what on a GPU would read or write foreign memory with EXECUTION_FAILED, and
cublasLtGetStatusString says why. Products are NumPy's on the memory behind the addresses, column by
column, half precision in float32.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p as pointer_t
from typing import NamedTuple

import ml_dtypes
import numpy as np

from .capture import launched
from .device import Memory, current

SUCCESS, NOT_INITIALIZED, INVALID_VALUE, EXECUTION_FAILED, NOT_SUPPORTED = 0, 1, 7, 13, 15
NAMES = {
    0: "SUCCESS", 1: "NOT_INITIALIZED", 7: "INVALID_VALUE", 13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
}  # fmt: skip
DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}
# (compute type, scale type): {(type of A and B, type of C and D)}
SUPPORTED = {
    (68, 0): {(0, 0), (2, 2), (2, 0), (14, 14), (14, 0)},  # COMPUTE_32F
    (77, 0): {(0, 0)},  # COMPUTE_32F_FAST_TF32
    (70, 1): {(1, 1)},  # COMPUTE_64F
}
BIAS, GRADIENT, AUX, RELU, GELU, DGELU = 4, 16, 128, 2, 32, 64
BGRADA, BGRADB = 256, 512
EPILOGUES = {1, 2, 4, 6, 32, 36, 160, 164, 192, 208, BGRADA, BGRADB}

# what can be set: number -> (name, bytes)
ATTRIBUTES = {
    "MatmulDesc": {
        3: ("transa", c_int32), 4: ("transb", c_int32), 7: ("epilogue", c_uint32),
        8: ("bias", pointer_t), 11: ("aux", pointer_t), 12: ("aux_ld", c_int64),
    },
    "MatrixLayout": {5: ("batch", c_int32), 6: ("stride", c_int64)},
    "MatmulPreference": {
        1: ("workspace", c_uint64), 3: ("reductions", c_uint32), 5: ("align_a", c_uint32),
        6: ("align_b", c_uint32), 7: ("align_c", c_uint32), 8: ("align_d", c_uint32),
    },
}  # fmt: skip
DEFAULTS = {
    "MatmulDesc": {"transa": 0, "transb": 0, "epilogue": 1, "bias": 0, "aux": 0, "aux_ld": 0},
    "MatrixLayout": {"batch": 1, "stride": 0},
    "MatmulPreference": {
        "workspace": 0, "reductions": 7, "align_a": 256, "align_b": 256, "align_c": 256,
        "align_d": 256,
    },
}  # fmt: skip
CREATED_WITH = {
    "MatmulDesc": [("compute", c_int), ("scale", c_int)],
    "MatrixLayout": [("type", c_int), ("rows", c_uint64), ("columns", c_uint64), ("ld", c_int64)],
    "MatmulPreference": [],
}
TAKEN = 2**20  # bytes of workspace that every algorithm asks for


class Refused(Exception):
    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


def need(holds: object, status: int, why: str) -> None:
    if not holds:
        raise Refused(status, why)


class Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = [
        ("algo", c_uint64 * 8), ("workspaceSize", c_size_t), ("state", c_int),
        ("wavesCount", c_float), ("reserved", c_int * 4),
    ]  # fmt: skip


class Object(dict):
    """What a descriptor holds; `kind` is its type, or Handle."""

    def __init__(self, kind: str, **values):
        super().__init__(values)
        self.kind = kind


class Call(NamedTuple):
    """What one cublasLtMatmul was asked: BLAS's m, n, k."""

    shape: tuple[int, int, int]
    batch: int
    types: tuple[int, int]
    transposed: tuple[int, int]
    epilogue: int
    alpha: float
    beta: float


def align(address: int, most: int) -> int:
    return min(address & -address, most) if address else most


class Library:
    """The shared library.

    calls    the products so far
    refused  epilogues for which there is to be no algorithm
    """

    def __init__(self) -> None:
        self.objects: dict[int, Object] = {}
        self.algorithms: list[tuple] = []
        self.calls: list[Call] = []
        self.refused: set[int] = set()
        self.why = b"nothing has failed"
        pointer, size = pointer_t, c_size_t
        self._export("Create", [pointer], self.create)
        for kind, given in CREATED_WITH.items():
            types = [pointer, *[t for _, t in given]]
            self._export(f"{kind}Create", types, lambda *a, k=kind: self.make(k, *a))
            self._export(f"{kind}Destroy", [pointer], lambda at, k=kind: self.destroy(k, at))
            self._export(
                f"{kind}SetAttribute", [pointer, c_int, pointer, size],
                lambda *a, k=kind: self.set(k, *a),
            )  # fmt: skip
        self._export("MatmulAlgoGetHeuristic", [*[pointer] * 7, c_int, *[pointer] * 2], self.choose)
        self._export("Matmul", [*[pointer] * 14, size, pointer], self.matmul)
        self._texts: dict[int, c_char_p] = {}
        self.cublasLtGetStatusName = self._text(lambda s: b"CUBLAS_STATUS_" + NAMES[s].encode())
        self.cublasLtGetStatusString = self._text(lambda s: self.why)

    def _export(self, name: str, types: list, function) -> None:
        def run(*args) -> int:
            try:
                function(*[a or 0 for a in args])
            except Refused as error:
                self.why = str(error).encode()
                return error.status
            except Exception as error:  # none may leave through C
                self.why = repr(error).encode()
                return 14
            return SUCCESS

        setattr(self, f"cublasLt{name}", ctypes.CFUNCTYPE(c_int, *types)(run))

    def _text(self, function):
        def run(status: int) -> int:
            self._texts[status] = c_char_p(function(status))
            return ctypes.cast(self._texts[status], pointer_t).value

        return ctypes.CFUNCTYPE(pointer_t, c_int)(run)

    # -------------------------------------------------------------------------- objects

    def _new(self, out: int, made: Object) -> None:
        need(out, INVALID_VALUE, "no place for the new object")
        address = 0x7E0000000000 + 64 * (len(self.objects) + 1)
        self.objects[address] = made
        pointer_t.from_address(out).value = address

    def _at(self, kind: str, address: int) -> Object:
        found = self.objects.get(address)
        status = NOT_INITIALIZED if kind == "Handle" else INVALID_VALUE
        need(found is not None and found.kind == kind, status, f"{address:#x} is no {kind}")
        return found

    def create(self, out: int) -> None:
        self._new(out, Object("Handle", device=current.device))

    def make(self, kind: str, out: int, *values: int) -> None:
        given = dict(zip([name for name, _ in CREATED_WITH[kind]], values, strict=True))
        if kind == "MatmulDesc":
            known = (given["compute"], given["scale"]) in SUPPORTED
            need(known, INVALID_VALUE, f"no such compute and scale types: {given}")
        if kind == "MatrixLayout":
            need(given["type"] in DTYPES, INVALID_VALUE, f"no such data type: {given}")
        self._new(out, Object(kind, **DEFAULTS[kind], **given))

    def destroy(self, kind: str, address: int) -> None:
        self.objects[address] = Object("destroyed " + self._at(kind, address).kind)

    def set(self, kind: str, address: int, attribute: int, value: int, size: int) -> None:
        found = self._at(kind, address)
        need(attribute in ATTRIBUTES[kind], INVALID_VALUE, f"{kind} has no attribute {attribute}")
        name, type_ = ATTRIBUTES[kind][attribute]
        need(size == ctypes.sizeof(type_), INVALID_VALUE, f"{name} has not {size} bytes")
        need(value, INVALID_VALUE, f"{name} from nowhere")
        found[name] = type_.from_address(value).value or 0

    # -------------------------------------------------------------------------- the problem

    def _problem(self, operation: int, layouts: list[int]) -> tuple:
        """The operation and the layouts of A, B, C, D, and m, n, k, if they go together."""
        op = self._at("MatmulDesc", operation)
        A, B, C, D = (self._at("MatrixLayout", x) for x in layouts)
        for name, x in zip("ABCD", (A, B, C, D)):
            need(x["rows"] and x["columns"], INVALID_VALUE, f"{name} is empty: {x}")
            need(x["ld"] >= x["rows"], INVALID_VALUE, f"{name}: ld below its rows: {x}")
            need(max(x["rows"], x["columns"]) < 2**31, INVALID_VALUE, f"{name} is too large: {x}")
            need(x["batch"] == D["batch"] >= 1, INVALID_VALUE, f"{name}: batch of another size")
        for name in ("transa", "transb"):
            need(op[name] in (0, 1), INVALID_VALUE, f"{name} is {op[name]}")
        m, k = (A["columns"], A["rows"]) if op["transa"] else (A["rows"], A["columns"])
        k2, n = (B["columns"], B["rows"]) if op["transb"] else (B["rows"], B["columns"])
        need(k == k2, INVALID_VALUE, f"op(A) {m} x {k}, op(B) {k2} x {n}")
        for name, x in (("C", C), ("D", D)):
            fits = (x["rows"], x["columns"]) == (m, n)
            need(fits, INVALID_VALUE, f"{name} is not {m} x {n}: {x}")
        types = A["type"], D["type"]
        need(B["type"] == A["type"] and C["type"] == D["type"], NOT_SUPPORTED, "types of pairs")
        need(
            types in SUPPORTED[op["compute"], op["scale"]], NOT_SUPPORTED,
            f"types {types} with compute type {op['compute']}",
        )  # fmt: skip
        if D["batch"] > 1:
            apart = D["stride"] >= D["rows"]  # matrices may interleave, but not begin inside a row
            need(apart, INVALID_VALUE, f"the products of a batch overlap: {D}")
        self._epilogue(op, D)
        return op, (A, B, C, D), (m, n, k)

    def _epilogue(self, op: Object, D: Object) -> None:
        kind = op["epilogue"]
        need(kind in EPILOGUES, INVALID_VALUE, f"there is no epilogue {kind}")
        if kind == 1:
            return
        need(D["type"] != 1, NOT_SUPPORTED, "an epilogue in float64")
        need(D["batch"] == 1, NOT_SUPPORTED, "the stand-in has no epilogue of batches")
        if kind & (BIAS | GRADIENT | BGRADA | BGRADB):
            need(op["bias"], INVALID_VALUE, f"epilogue {kind} without BIAS_POINTER")
        if kind & AUX:
            need(op["aux"], INVALID_VALUE, f"epilogue {kind} without EPILOGUE_AUX_POINTER")
            fits = op["aux_ld"] >= D["rows"] and op["aux_ld"] % 8 == 0
            need(fits, INVALID_VALUE, f"EPILOGUE_AUX_LD {op['aux_ld']} for {D['rows']} rows")

    def _fingerprint(self, op: Object, layouts: tuple) -> tuple:
        own = [(k, v) for k, v in op.items() if k not in ("bias", "aux")]
        return (*own, *[tuple(x.items()) for x in layouts])

    def choose(
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int,
        asked: int, results: int, count: int,
    ) -> None:  # fmt: skip
        need(self._at("Handle", handle)["device"] == current.device, INVALID_VALUE, "whose handle?")
        need(asked > 0 and results and count, INVALID_VALUE, "no results asked for")
        op, layouts, _ = self._problem(operation, [a, b, c, d])
        wish = self._at("MatmulPreference", preference)
        need(op["epilogue"] not in self.refused, NOT_SUPPORTED, "no algorithm for this epilogue")
        need(wish["workspace"] >= TAKEN, NOT_SUPPORTED, "too small a workspace")
        for name in ("align_a", "align_b", "align_c", "align_d"):
            power = wish[name] > 0 and wish[name] & (wish[name] - 1) == 0
            need(power, INVALID_VALUE, f"{name} is {wish[name]}")
        pointers = align(op["bias"], 16), align(op["aux"], 16)
        self.algorithms.append((self._fingerprint(op, layouts), dict(wish), pointers))
        found = Result.from_address(results)
        found.algo[0], found.algo[1] = 0xA160, len(self.algorithms) - 1
        found.workspaceSize, found.state = TAKEN, SUCCESS
        c_int.from_address(count).value = 1

    # -------------------------------------------------------------------------- the product

    def _memory(self, name: str, address: int, size: int) -> int:
        """The address, if these bytes are of one allocation on the current device."""
        need(address, INVALID_VALUE, f"{name} is null")
        inside = any(
            m.device_id == current.device and m.holds(address, size) for m in list(Memory.live)
        )
        need(
            inside, EXECUTION_FAILED,
            f"{name}: {size} bytes at {address:#x} are not in one array of device {current.device}",
        )  # fmt: skip
        return address

    def _matrices(self, name: str, address: int, x: Object) -> np.ndarray:
        """(batch, rows, columns) over the memory of a layout."""
        dtype = np.dtype(DTYPES[x["type"]])
        last = (x["batch"] - 1) * x["stride"] + (x["columns"] - 1) * x["ld"] + x["rows"]
        size = last * dtype.itemsize
        memory = (ctypes.c_ubyte * size).from_address(self._memory(name, address, size))
        return np.lib.stride_tricks.as_strided(
            np.frombuffer(memory, dtype), (x["batch"], x["rows"], x["columns"]),
            [step * dtype.itemsize for step in (x["stride"], 1, x["ld"])],
        )  # fmt: skip

    def _vector(self, name: str, address: int, size: int, type_: int) -> np.ndarray:
        return self._matrices(
            name, address, Object("", type=type_, rows=size, columns=1, ld=size, batch=1, stride=0)
        )[0, :, 0]

    def matmul(
        self, handle: int, operation: int, alpha: int, A: int, a: int, B: int, b: int, beta: int,
        C: int, c: int, D: int, d: int, algorithm: int, workspace: int, room: int, stream: int,
    ) -> None:  # fmt: skip
        from . import standin

        need(self._at("Handle", handle)["device"] == current.device, INVALID_VALUE, "whose handle?")
        need(stream == standin.cupy.cuda.get_current_stream().ptr, INVALID_VALUE, "another stream")
        op, layouts, shape = self._problem(operation, [a, b, c, d])
        need(algorithm, INVALID_VALUE, "no algorithm")
        tag, number, *_ = (c_uint64 * 8).from_address(algorithm)
        need(tag == 0xA160 and number < len(self.algorithms), INVALID_VALUE, "not an algorithm")
        fingerprint, wish, pointers = self.algorithms[number]
        same = fingerprint == self._fingerprint(op, layouts)
        need(same, INVALID_VALUE, "the algorithm was chosen for another problem")
        for name, at in (("a", A), ("b", B), ("c", C), ("d", D)):
            need(at % wish[f"align_{name}"] == 0, INVALID_VALUE, f"{name} is not aligned as said")
        for at, least in zip((op["bias"], op["aux"]), pointers):
            need(at % least == 0, INVALID_VALUE, "bias or aux is not aligned as it was before")
        need(room >= TAKEN, INVALID_VALUE, "the algorithm takes more workspace")
        self._memory("workspace", workspace, room)
        need(C == D, INVALID_VALUE, "the stand-in knows products in place only")
        need(alpha and beta, INVALID_VALUE, "alpha or beta is null")
        scalar = ctypes.c_double if op["scale"] == 1 else c_float
        factors = scalar.from_address(alpha).value, scalar.from_address(beta).value
        # what a graph holds: the descriptors may be others when it is launched
        op, layouts = op.copy(), [x.copy() for x in layouts]
        launched(self._multiply)(op, layouts, shape, (A, B, D), factors)

    def _multiply(
        self, op: Object, layouts: list, shape: tuple, addresses: tuple, factors: tuple
    ) -> None:
        dtype = np.float64 if op["scale"] == 1 else np.float32
        views = [
            self._matrices(n, at, x)
            for n, at, x in zip("ABD", addresses, [*layouts[:2], layouts[3]])
        ]
        for name, x in zip("AB", views):
            need(not _overlap(x, views[2]), INVALID_VALUE, f"{name} overlaps D")
        x, y = (
            v.transpose(0, 2, 1) if op[t] else v for v, t in zip(views, ("transa", "transb"))
        )  # fmt: skip
        x, y, out = x.astype(dtype), y.astype(dtype), views[2]
        if op["compute"] == 77:
            x, y = _tf32(x), _tf32(y)
        alpha, beta = factors
        with np.errstate(all="ignore"):
            result = dtype(alpha) * (x @ y)
            if beta:
                result += dtype(beta) * out.astype(dtype)
            if op["epilogue"] == 1:
                out[...] = result
            else:
                self._finish(op, layouts[3], x[0], y[0], result[0], out[0])
        types, transposed = (layouts[0]["type"], layouts[3]["type"]), (op["transa"], op["transb"])
        self.calls.append(
            Call(shape, layouts[3]["batch"], types, transposed, op["epilogue"], alpha, beta)
        )

    def _finish(self, op: Object, D: Object, x, y, result, out) -> None:
        """The epilogue of one matrix: x (m, k) @ y (k, n) = result (m, n), into out."""
        kind, (m, n) = op["epilogue"], result.shape
        if kind & BIAS:
            result += self._vector("bias", op["bias"], m, D["type"]).astype(result.dtype)[:, None]
        if kind & AUX:
            place = Object(
                "", type=D["type"], rows=m, columns=n, ld=op["aux_ld"], batch=1, stride=0
            )
            aux = self._matrices("aux", op["aux"], place)[0]
            if kind & GELU:
                aux[...] = result
        if kind & RELU:
            result = np.maximum(result, 0)
        elif kind & GELU:
            result = result * _gelu(result)[0]
        elif kind & DGELU:
            value, slope = _gelu(aux.astype(result.dtype))
            result = result * (value + aux.astype(result.dtype) * slope)
        out[...] = result
        if kind & GRADIENT:
            self._vector("bias gradient", op["bias"], m, D["type"])[...] = result.sum(1)
        if kind == BGRADA:
            self._vector("bias gradient", op["bias"], m, D["type"])[...] = x.sum(1)
        if kind == BGRADB:
            self._vector("bias gradient", op["bias"], n, D["type"])[...] = y.sum(0)


def _gelu(x: np.ndarray) -> tuple:
    """s and s' of gelu(x) = x s, s = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3)"""
    c = math.sqrt(2 / math.pi)
    s = 1 / (1 + np.exp(-2 * c * (x + 0.044715 * x**3)))
    return s, s * (1 - s) * 2 * c * (1 + 3 * 0.044715 * x**2)


def _tf32(x: np.ndarray) -> np.ndarray:
    """float32 with 10 bits of mantissa, rounded to nearest"""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def _overlap(x: np.ndarray, out: np.ndarray) -> bool:
    try:
        return np.shares_memory(x, out, max_work=100_000)
    except np.exceptions.TooHardError:
        return False  # interleaved in a way that is not decided quickly
