"""Threads of the CPU kernels: how many, from where, and what others notice of them."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tinytensor as tt
from benchmarks.shapes import shape, training_step
from gpt.model import GPT
from tinytensor.kernels import cores, threads


@pytest.fixture(autouse=True)
def restored_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


# ------------------------------------------------------------------------------ containers


def write(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


V2 = {"proc/self/cgroup": "0::/kube/pod\n"}
V1 = {"proc/self/cgroup": "12:memory:/docker/ab\n5:cpu,cpuacct:/docker/ab\n1:name=systemd:/\n"}
PERIOD = {"sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, [1.5]),
        (V2 | {"sys/fs/cgroup/kube/pod/cpu.max": "300000 100000\n"}, [3.0]),
        (  # the pod may use two cores, but all pods together one
            V2 | {"sys/fs/cgroup/kube/pod/cpu.max": "200000 100000\n",
                  "sys/fs/cgroup/kube/cpu.max": "50000 50000\n"}, [2.0, 1.0],
        ),
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, [4.0]),  # the host's path, unseen
        (V2 | {"sys/fs/cgroup/unified/kube/pod/cpu.max": "100000 100000\n"}, [1.0]),
        (V1 | PERIOD | {"sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "-1\n"}, []),
        (V1 | PERIOD | {"sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000\n"}, [2.5]),
        (
            V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                  "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, [1.0],
        ),
        (V1 | PERIOD | {"sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "what\n"}, []),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(tmp_path, files, expected):
    write(tmp_path, files)
    assert list(cores.quotas(tmp_path)) == expected


@pytest.mark.parametrize("quotas, expected", [([], 8), ([3.0], 3), ([2.5, 16.0], 2), ([0.2], 1)])
def test_no_more_threads_than_the_quota_feeds(monkeypatch, quotas, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "quotas", lambda: iter(quotas))
    assert cores.available_cores() == expected


# ------------------------------------------------------------------------------ results

SMALL = shape(32, 64, 4, 2, 8)


def fresh_model():
    tt.manual_seed(3)
    return GPT(SMALL.config)


def weights_after_steps(model):
    step = training_step(model, SMALL.ids())
    for _ in range(6):
        step()
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def trained(count=2):
    threads.set_num_threads(count)
    return weights_after_steps(fresh_model())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_training_is_bit_identical_for_the_same_number_of_threads(count):
    np.testing.assert_array_equal(trained(count=count), trained(count=count))


def test_the_number_of_threads_changes_rounding_only():
    np.testing.assert_allclose(trained(count=1), trained(count=3), atol=2e-4)


def test_models_trained_at_once_by_several_python_threads_do_not_mix():
    expected, results = trained(), {}

    models = [fresh_model() for _ in range(3)]

    def run(i):
        results[i] = weights_after_steps(models[i])

    runners = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for t in runners:
        t.start()
    for t in runners:
        t.join(60)
    for i in range(3):  # a phase that finds the pool busy runs on its own thread alone
        np.testing.assert_allclose(results[i], expected, atol=2e-4)


# ------------------------------------------------------------------------------ neighbours

NEIGHBOUR = """
import time
import tinytensor as tt
tt.set_num_threads(2)
x, w = tt.ones(512, 512), tt.ones(512, 512)
time.sleep(0.3)  # OpenBLAS's own threads spin once, when they are born
tt.nn.functional.linear(x, w)
start = time.process_time()
time.sleep(0.3)
print(time.process_time() - start)
"""


def test_waiting_threads_sleep():
    """Two runs on one machine: between phases a thread leaves its core to the other."""
    out = subprocess.run(
        [sys.executable, "-c", NEIGHBOUR], capture_output=True, text=True, check=True
    )
    assert float(out.stdout) < 0.05  # OpenMP's threads would spin for 0.2 s


def test_two_runs_at_once_take_no_more_processor_time_than_one_after_the_other():
    work = (
        "import time, tinytensor as tt\n"
        "from benchmarks.shapes import our_step, shape\n"
        "tt.set_num_threads(2)\n"
        "step = our_step(shape(64, 128, 4, 2, 4))\n"
        "step()\n"
        "start = time.process_time()\n"
        "for _ in range(10): step()\n"
        "print(time.process_time() - start)\n"
    )

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", work], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip

    def seconds(process):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return float(out)

    alone = seconds(start())
    together = [start(), start()]
    each = [seconds(p) for p in together]
    # spinning threads take several times as much; sharing caches costs some tens of percent
    assert max(each) < 2.5 * alone + 0.1


def a_forked_child_works() -> bool:
    """Whether all blocks of a phase are done in a child."""
    child = os.fork()
    if child == 0:
        done = []
        threads.parallel(done.append, range(4))
        os._exit(0 if sorted(done) == [0, 1, 2, 3] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    threads.set_num_threads(2)
    threads.parallel(lambda i: None, range(4))
    assert a_forked_child_works()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_phase_works_on():
    """Also where another thread holds the pool at that moment."""
    threads.set_num_threads(2)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            threads.parallel(lambda i: time.sleep(0.001), range(4))

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(5):
            assert a_forked_child_works()
    finally:
        stop.set()
        other.join()
