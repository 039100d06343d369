"""CUDA graphs: what is captured, launched, gives what running it would have given."""

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import nn, optim
from tinytensor.nn import functional as F


def test_a_launch_does_what_was_captured(cuda):
    x, y = tt.arange(4.0, device=cuda), tt.zeros(4, device=cuda)
    g = tt.cuda.CUDAGraph()
    assert not tt.cuda.is_current_stream_capturing()
    with tt.cuda.graph(g):
        assert tt.cuda.is_current_stream_capturing()
        z = x * 2 + 1
        y += z
    assert (y == 0).all().item()  # nothing ran
    for n in range(1, 4):
        g.replay()
        assert z.tolist() == [1, 3, 5, 7]
        assert y.tolist() == [n * v for v in (1, 3, 5, 7)]
    x.copy_(tt.ones(4))
    g.replay()
    assert z.tolist() == [3] * 4


def test_random_numbers_go_on(cuda):
    """Each launch draws what the code would have drawn then, and eager code in between too."""

    def drawn(step):
        tt.manual_seed(11)
        result = []
        for _ in range(3):
            result.append(step())
            result.append(tt.rand(3).tolist())
        return result, tt.default_generator.get_state()

    ones = tt.ones(5, 4, device=cuda)

    def eager():
        return [F.dropout(ones, 0.4).tolist(), tt.rand(3, device=cuda).tolist()]

    g = tt.cuda.CUDAGraph()
    with tt.cuda.graph(g):
        kept = F.dropout(ones, 0.4), tt.rand(3, device=cuda)

    def launched():
        g.replay()
        return [t.tolist() for t in kept]

    before = tt.default_generator.get_state()
    assert drawn(eager) == drawn(launched)
    assert before != tt.default_generator.get_state()


def test_a_training_step(cuda, unread):
    """Forward, backward, clipping and the optimizer in one launch; new data each time."""

    def trained(captured):
        tt.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.25), nn.GELU(), nn.Linear(8, 2))
        model.to(cuda)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, y = tt.zeros(6, 3, device=cuda), tt.zeros(6, 2, device=cuda)
        rng = np.random.default_rng(0)
        losses = []

        def step():
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss

        g = tt.cuda.CUDAGraph()
        for i in range(6):
            x.copy_(tt.tensor(rng.normal(size=(6, 3)), dtype=tt.float32))
            y.copy_(tt.tensor(rng.normal(size=(6, 2)), dtype=tt.float32))
            if captured and i == 1:
                with unread(), tt.cuda.graph(g):
                    loss = step()
            if captured and i:
                g.replay()
            else:
                loss = step()
            losses.append(loss.item())
        return losses, [p.tolist() for p in model.parameters()]

    assert trained(True) == trained(False)


def test_what_a_capture_refuses(cuda):
    x = tt.ones(3, device=cuda)
    g = tt.cuda.CUDAGraph()
    with pytest.raises(tt.errors.DeviceError, match="empty"):
        g.replay()
    for forbidden in (
        lambda: x.sum().item(),  # a value is read
        lambda: x.to("cpu"),
        lambda: tt.tensor([1.0, 2.0], device=cuda),  # an upload
        lambda: x[x > 0],  # a size that is in the data
        lambda: tt.cuda.synchronize(),
    ):
        state = tt.default_generator.get_state()
        with pytest.raises(Exception, match="captur"), tt.cuda.graph(g):
            tt.rand(2, device=cuda)
            forbidden()
        assert not tt.cuda.is_current_stream_capturing()
        assert tt.default_generator.get_state() == state
        assert tt.default_generator.base is None
    with tt.cuda.graph(g):
        with pytest.raises(tt.errors.DeviceError, match="nest"), tt.cuda.graph(tt.cuda.CUDAGraph()):
            pass
        y = x + 1
    g.replay()
    assert y.tolist() == [2, 2, 2]
    g.reset()
    with pytest.raises(tt.errors.DeviceError, match="empty"):
        g.replay()


def test_memory_that_was_given_back_is_missed(cuda):
    """The stand-in's own: a graph that reads an array nobody keeps would read anything."""
    from .device import CUDARuntimeError

    x = tt.ones(3, device=cuda)
    g = tt.cuda.CUDAGraph()
    with tt.cuda.graph(g):
        y = x + 1
    del x
    with pytest.raises(CUDARuntimeError, match="given back"):
        g.replay()
    assert y.shape == (3,)
