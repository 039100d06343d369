"""Without g++ kernels cannot run on the CPU: tests of it are skipped. `.ci/run` insists on g++."""

import pytest

from .shim import missing


@pytest.fixture(autouse=True)
def a_compiler(request: pytest.FixtureRequest) -> None:
    real = request.config.getoption("--device") == "cuda" and "cuda" in request.fixturenames
    if missing() and not real:
        pytest.skip(missing())
