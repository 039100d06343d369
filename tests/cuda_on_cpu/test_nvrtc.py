"""Every kernel source compiles for sm_80 and sm_90, without warnings, spills or local memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tinytensor.kernels.cuda import launch

from . import nvrtc

pytestmark = pytest.mark.skipif(
    nvrtc.paths() is None, reason="NVRTC's wheels are not installed: pip install -e '.[test]'"
)

# kernel: why it may have an array in local memory
LOCAL = {
    name: "cos() of a double: the library's path for arguments beyond 2^20, which is never taken"
    for name in ("normal", "normal_double")
}


@pytest.mark.parametrize("target", nvrtc.targets(), ids=str)
def test_a_source_compiles_without_spills(target):
    result = nvrtc.compiled(target)
    assert result.ok and not result.warnings, result.log
    assert set(result.usage) == set(launch.entries(launch.source(target.file))), result.log
    for name, usage in result.usage.items():
        assert usage.spilled == 0, f"{name}: {usage.spilled} bytes of registers spilled"
        assert name in LOCAL or usage.stack == 0, f"{name}: {usage.stack} bytes of local memory"


BROKEN = """
extern "C" __global__ void {name}(float* out, const float* x, int n) {{ {body} }}
"""


def usage_of(body, name="f"):
    target = nvrtc.targets("activation")[0]
    ok, log = nvrtc.compile_text(BROKEN.format(name=name, body=body), nvrtc.options(target))
    return nvrtc.Compiled(ok, log, nvrtc._usage(log))


def test_what_it_finds():
    assert not usage_of("out[0] = y;").ok
    assert "identifier \"y\" is undefined" in usage_of("out[0] = y;").log
    assert usage_of("int unused; out[0] = x[0];").warnings
    each = "\n#pragma unroll\nfor (int i = 0; i < 200; i++) "
    local = usage_of(f"float a[200]; {each} a[i] = x[i * n]; out[0] = a[n] + a[n / 2];")
    assert local.usage["f"].stack == 800
    many = f"float a[200]; {each} a[i] = x[i * n]; __syncthreads(); {each} out[i * n] = a[199 - i];"
    assert usage_of(many, name="__launch_bounds__(1024) f").usage["f"].spilled > 0


def test_the_options_are_those_of_cupy():
    """What CuPy's RawModule hands to NVRTC, but for folders and the report."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    target = nvrtc.targets("activation")[0]
    asked = subprocess.run(
        [sys.executable, "-c", ASK, target.architecture.removeprefix("sm_"), target.storage],
        capture_output=True, text=True,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    theirs = json.loads(asked.stdout.splitlines()[-1])
    own = nvrtc.options(target)
    assert [o for o in theirs if o[:2] != "-I"] == [
        o for o in own if o[:2] != "-I" and o != nvrtc.REPORT
    ]
    assert [o for o in own if o[:2] == "-I"][0] in theirs


# CuPy's own path from RawModule to NVRTC, which here ends where the program would be compiled
ASK = """
import json, sys
from cupy._core import core
from cupy.cuda import compiler, device, runtime

class Program:
    def __init__(self, *args, **kwargs): pass
    def compile(self, options, log_stream=None):
        print(json.dumps([*options])); sys.exit()

compiler._get_arch = lambda: sys.argv[1]
compiler._get_arch_for_options_for_nvrtc = lambda arch=None: (f"-arch=sm_{sys.argv[1]}", "cubin")
compiler._preprocess = lambda *args: ""
compiler._NVRTCProgram = Program
compiler._kernel_cache_backend.load = lambda name: None
core.compile_with_cache("", ("-std=c++17", f"-Dreal={sys.argv[2]}"), backend="nvrtc")
"""
