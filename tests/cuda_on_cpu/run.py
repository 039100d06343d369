"""`python -m cuda_on_cpu.run MODULE ARGS`: a command in a process where `cuda` is the stand-in."""

import runpy
import sys

from cuda_on_cpu.standin import installed

if __name__ == "__main__":
    del sys.argv[0]
    with installed():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
