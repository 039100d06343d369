"""What every test may rely on: one thread per process, repeatable hypothesis, the shared data."""

import os
from collections.abc import Iterator

# Before NumPy or torch is imported: tests run side by side, one per core.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", choices=["stand-in", "cuda"], default="stand-in",
        help="what `cuda` is in the tests of it: a stand-in for CuPy (default), or this GPU",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m cuda` are the tests that ask for the fixture of this name."""
    for item in items:
        if "cuda" in getattr(item, "fixturenames", ()):
            item.add_marker("cuda")


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device 'cuda': a stand-in for CuPy on this CPU, or with `--device cuda` a real GPU."""
    if request.config.getoption("--device") == "cuda":
        from tinytensor import backend

        problem = backend.cuda_problem()
        if problem:
            pytest.fail(f"--device cuda: {problem}", pytrace=False)
        yield "cuda"
        return
    from cuda_on_cpu.shim import missing
    from cuda_on_cpu.standin import installed

    if missing():
        pytest.skip(missing())
    with installed():
        yield "cuda"


@pytest.fixture
def unread(request: pytest.FixtureRequest) -> Any:
    """`with unread():` whoever reads a value of the GPU, and so waits for it, is an error."""
    if request.config.getoption("--device") == "cuda":
        import cupyx

        return lambda: cupyx.allow_synchronize(False)
    from cuda_on_cpu.device import no_waiting

    return no_waiting


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository's root: subprocess tests run their command there."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora beside the checkout (`../shared/data`); the test skips where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data is not beside this checkout (../shared/data)")
    return folder
