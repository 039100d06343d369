"""An average of the weights: the formula, and what a run does with it."""

import numpy as np
import pytest

import tinytensor as tt
from gpt import ema
from gpt.checkpoint import Checkpoint
from gpt.generate import load_model
from gpt.pretrained import from_pretrained
from gpt.run import read_metrics
from tinytensor import nn

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_formula():
    tt.manual_seed(0)
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    average = ema.EMA(layer, 0.7)
    assert average.mean.keys() == {"weight"}
    wanted, rng = layer.weight.detach().numpy().astype(np.float64), np.random.default_rng(0)
    for n in range(1, 40):
        w = rng.standard_normal((2, 3)).astype(np.float32)
        layer.weight.data = tt.tensor(w)
        average.update(n)
        d = min(0.7, (1 + n) / (10 + n))
        wanted = d * wanted + (1 - d) * w
        np.testing.assert_allclose(average.mean["weight"].numpy(), wanted, rtol=1e-5, atol=1e-6)
    with average.applied():
        np.testing.assert_allclose(layer.weight.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert np.array_equal(layer.weight.detach().numpy(), w)


@pytest.fixture
def averaged(train, tmp_path):
    answer = train("--out", tmp_path / "r", "--ema", "0.8", "--save-every", "5")
    assert answer.code == 0, answer.err
    return tmp_path / "r"


def test_training_is_the_same_and_evaluation_is_of_the_average(train, averaged, tmp_path):
    assert train("--out", tmp_path / "plain").code == 0
    ours, plain = Checkpoint.find(averaged), Checkpoint.find(tmp_path / "plain")
    for name, array in plain.weights().items():
        assert np.array_equal(array, ours.weights()[name])
    a, b = (read_metrics(path / "metrics.jsonl") for path in (averaged, tmp_path / "plain"))
    assert [r["train_loss"] for r in a[1:]] == [r["train_loss"] for r in b[1:]]
    assert a[0]["val_loss"] == b[0]["val_loss"] and a[-1]["val_loss"] != b[-1]["val_loss"]


def test_a_run_averages_the_weights_after_each_step(train, tmp_path):
    assert train("--out", tmp_path / "r", "--ema", "0.3", "--save-every", "1").code == 0
    saved = [Checkpoint.find(p) for p in sorted((tmp_path / "r" / "checkpoints").iterdir())]
    name = "h.0.mlp.c_fc.weight"
    mean = saved[0].weights()[name].astype(np.float64)
    for n, one in enumerate(saved):
        if n:
            d = min(0.3, (1 + n) / (10 + n))
            mean = d * mean + (1 - d) * one.weights()[name]
        np.testing.assert_allclose(one.arrays(ema.FILE)[name], mean, rtol=0, atol=1e-6)


def test_on_cuda(cuda):
    tt.manual_seed(0)
    layer = nn.Linear(3, 2).to(cuda)
    average = ema.EMA(layer, 0.5)
    start = layer.weight.detach().cpu().numpy().copy()
    layer.weight.data = layer.weight.detach() * 3
    average.update(20)
    with average.applied():
        np.testing.assert_allclose(layer.weight.detach().cpu().numpy(), 2 * start, rtol=1e-6)
    average.load({name: np.zeros(p.shape, np.float32) for name, p in layer.named_parameters()})
    assert not average.mean["weight"].cpu().numpy().any()


def test_generate_and_convert_take_it_where_asked(run, averaged, tmp_path):
    saved = Checkpoint.find(averaged)
    means = saved.arrays(ema.FILE)
    model, _, _ = load_model(str(averaged), "cpu", averaged=True)
    for name, p in model.named_parameters():
        assert np.array_equal(p.detach().numpy(), means[name])
    assert model.lm_head.weight is model.wte.weight
    assert not np.array_equal(means["wte.weight"], saved.weights()["wte.weight"])
    texts = [run("gpt.generate", averaged, *flag, "--max-new-tokens", "9", "--json").out
             for flag in ([], ["--ema"])]  # fmt: skip
    assert texts[0] != texts[1]
    assert run("gpt.convert", averaged, tmp_path / "m.pkl", "--ema").code == 0
    wte = from_pretrained(tmp_path / "m.pkl").wte.weight.detach().numpy()
    assert np.array_equal(wte, means["wte.weight"])


def test_a_run_without_one_is_told(run, train, tmp_path, small_run):
    for argv in (["gpt.generate", small_run], ["gpt.convert", small_run, tmp_path / "x.pkl"]):
        answer = run(*argv, "--ema")
        assert answer.code == 2 and "--ema" in answer.err and "no averaged weights" in answer.err
