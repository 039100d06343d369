"""LoRA: the formula, what is trained of it, and that merged it is the same model."""

import numpy as np
import pytest

import tinytensor as tt
from gpt import lora
from gpt.checkpoint import Checkpoint
from gpt.config import Config, FinetuneConfig, GPTConfig
from gpt.errors import ConfigError
from gpt.generate import load_model
from gpt.model import GPT
from gpt.models import build_model
from gpt.pretrained import from_pretrained
from gpt.state import build_optimizer
from tinytensor import nn
from tinytensor.testing import gradcheck

pytestmark = pytest.mark.usefixtures("undrawn")
CONFIG = Config(
    gpt=GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, init_std=0.3),
    finetune=FinetuneConfig(init_from="somewhere", lora_rank=3, lora_alpha=6.0),
)
IDX = np.arange(14).reshape(2, 7) % 11


def adapted(**settings) -> GPT:
    """A model with additions that do something."""
    tt.manual_seed(1)
    finetune = FinetuneConfig(**{**vars(CONFIG.finetune), **settings})
    model = build_model(Config(gpt=CONFIG.gpt, finetune=finetune))
    with tt.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("lora_B"):
                p.copy_(tt.randn(*p.shape))
    return model


def test_the_formula():
    tt.manual_seed(0)
    linear = nn.Linear(5, 4).double()
    layer = lora.LoRALinear(linear, rank=2, alpha=6.0).double()
    x = tt.randn(3, 5, dtype=tt.float64, requires_grad=True)
    assert np.array_equal(layer(x).detach().numpy(), linear(x).detach().numpy())  # B is zeros
    with tt.no_grad():
        layer.lora_B.copy_(tt.randn(4, 2))
    W, b, A, B = (p.detach().numpy() for p in (layer.weight, layer.bias, layer.lora_A,
                                               layer.lora_B))  # fmt: skip
    wanted = x.detach().numpy() @ (W + 3.0 * B @ A).T + b
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-12)
    gradcheck(lambda x, A, B: layer(x), (x, layer.lora_A, layer.lora_B))


def test_the_first_a_is_of_unit_scale():
    tt.manual_seed(0)
    A = lora.LoRALinear(nn.Linear(400, 4), 50, 1.0).lora_A.detach().numpy()
    assert A.std() * 20 == pytest.approx(1, abs=0.03)


def test_only_the_additions_have_gradients_and_moments():
    model = adapted()
    model(tt.tensor(IDX), tt.tensor(IDX))[1].backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad == (".lora_" in name), name
    optimizer = build_optimizer(model, CONFIG.optim)
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    optimizer.step()
    assert len(optimizer.state) == 2 * 4 * CONFIG.gpt.n_layer
    for name, p in model.named_parameters():
        assert np.array_equal(before[name], p.detach().numpy()) == (".lora_" not in name), name


def test_on_cuda(cuda):
    model, here = adapted().to(cuda), adapted()
    losses = [m(tt.tensor(IDX, device=d), tt.tensor(IDX, device=d))[1]
              for m, d in ((model, cuda), (here, "cpu"))]  # fmt: skip
    losses[0].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    assert model.h[0].attn.c_attn.lora_A.grad.device.type == "cuda"


@pytest.mark.parametrize("targets, layers", [("c_attn", 2), ("c_attn,c_proj,c_fc", 8),
                                             ("h.1.*", 4), ("h.0.mlp.c_fc", 1)])  # fmt: skip
def test_merged_is_the_same_model(targets, layers):
    model = adapted(lora_targets=targets).eval()
    assert sum(type(m) is lora.LoRALinear for m in model.modules()) == layers
    plain = GPT(CONFIG.gpt).eval()
    arrays = {name: t.numpy() for name, t in model.state_dict().items()}
    plain.load_state_dict(lora.merged(arrays, CONFIG.finetune))
    with tt.no_grad():
        ours, theirs = (m(tt.tensor(IDX), tt.tensor(IDX))[0].numpy() for m in (model, plain))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(ours).max())


def test_what_cannot_be():
    for settings, words in [({"lora_targets": "c_atn"}, "--lora-targets c_atn: matches no layer"),
                            ({"lora_targets": "lm_head"}, "matches no layer"),
                            ({"lora_targets": ","}, "names no layer"),
                            ({"lora_rank": 9}, "--lora-rank 9: must not exceed 8")]:  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            adapted(**settings)


@pytest.fixture
def base(train, tmp_path):
    assert train("--out", tmp_path / "base").code == 0
    return tmp_path / "base"


def test_a_run_and_its_conversion(run, cats, base, tmp_path):
    """Step 0 is the base; unmerged and merged write the same; the merged one is a plain GPT."""
    out = tmp_path / "lora"
    answer = run("gpt.train", *"--max-steps 12 --lr 1e-1 --warmup-steps 0 --eval-every 6 "
                 "--eval-batches 2 --batch-size 4 --sample-chars 20 --save-every 6".split(),
                 "--data", cats, "--init-from", base, "--lora-rank", "2", "--out", out)  # fmt: skip
    assert answer.code == 0 and "of which 512 are trained" in answer.out, answer.err
    saved, before = Checkpoint.find(out), Checkpoint.find(base)
    for name, array in before.weights().items():
        assert np.array_equal(array, saved.weights()[name]), name
    first = Checkpoint.find(out / "checkpoints" / "000000").weights()
    assert all((first[name] == 0).all() for name in first if name.endswith("lora_B"))
    assert any((array != 0).all() for name, array in saved.weights().items()
               if name.endswith("lora_B"))  # fmt: skip
    assert sum(name.endswith("exp_avg") for name in saved.arrays("optimizer.safetensors")) == 8

    for dest in ("merged.pkl", "hf"):
        assert run("gpt.convert", out, tmp_path / dest).code == 0
    unmerged, merged = load_model(str(out), "cpu")[0].eval(), from_pretrained(tmp_path / "hf")
    assert not any(".lora_" in name for name, _ in merged.named_parameters())
    idx = tt.tensor(IDX)
    with tt.no_grad():
        ours, theirs = (m(idx, idx)[0].numpy() for m in (unmerged, merged))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(ours).max())
    texts = [run("gpt.generate", path, "--prompt", "the cat", "--max-new-tokens", "9",
                 "--temperature", "0").out for path in (out, tmp_path / "merged.pkl")]  # fmt: skip
    assert texts[0] == texts[1] and len(texts[0]) > 9
    again = run("gpt.train", "--init-from", out, "--data", cats, "--max-steps", "1", "--out",
                tmp_path / "again", "--warmup-steps", "0", "--sample-chars", "0")  # fmt: skip
    assert again.code == 0
    assert not any("lora" in name for name in Checkpoint.find(tmp_path / "again").weights())
