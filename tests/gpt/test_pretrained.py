"""GPT-2 in and out, with transformers as the judge; the course's and nanoGPT's weights, too."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from peers.gpt2 import GPT2LMHeadModel, course_model, random_gpt2
from peers.tf_bundle import write_bundle
from peers.torch_gpt import TorchGPT, twin

import tinytensor as tt
from gpt.config import GPTConfig
from gpt.errors import is_mistake
from gpt.model import GPT
from gpt.pickled import save_model
from gpt.pretrained import PretrainedError, open_source
from tinytensor.errors import CheckpointError
from tinytensor.serialize import load_safetensors, save_safetensors

CONFIGS = {
    "odd": {"vocab_size": 31, "n_positions": 16, "n_embd": 12, "n_layer": 2, "n_head": 3},
    "one head": {"vocab_size": 7, "n_positions": 5, "n_embd": 6, "n_layer": 1, "n_head": 1},
    "all heads": {"vocab_size": 101, "n_positions": 9, "n_embd": 5, "n_layer": 3, "n_head": 5},
    "untied": {"tie_word_embeddings": False},
    "relu": {"activation_function": "relu"},
    "exact gelu": {"activation_function": "gelu", "layer_norm_epsilon": 1e-3},
    "torch's tanh": {"activation_function": "gelu_pytorch_tanh", "n_inner": 48},
    "wide": {"vocab_size": 257, "n_positions": 64, "n_embd": 96, "n_layer": 4, "n_head": 6},
}


def ids_for(config, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, config.vocab_size, (batch, config.n_positions))


def logits_of(model, ids):
    with tt.no_grad():
        return model(tt.tensor(ids), tt.tensor(ids))[0].numpy()


def relative(a, b):
    """The largest difference, in units of the largest value."""
    return np.abs(a - b).max() / np.abs(b).max()


def by_theirs(theirs, ids):
    """(logits, {name: gradient}) of transformers' model, by our names and layout."""
    theirs.zero_grad()
    ids = torch.tensor(ids)
    logits = theirs(ids).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    grads = {}
    for name, p in theirs.named_parameters():
        turned = ".c_" in name and name.endswith("weight")
        grads[name.removeprefix("transformer.")] = (p.grad.T if turned else p.grad).numpy()
    return logits.detach().numpy(), grads


def assert_same_model(ours, theirs):
    """Logits in float32; gradients in float64, where rounding hides nothing; greedy ids."""
    ids = ids_for(theirs.config)
    assert relative(logits_of(ours, ids), by_theirs(theirs, ids)[0]) < 1e-5
    wanted, grads = by_theirs(theirs.double(), ids)
    logits, loss = ours.double()(tt.tensor(ids), tt.tensor(ids))
    assert relative(logits.detach().numpy(), wanted) < 1e-12
    loss.backward()
    named = dict(ours.named_parameters())
    assert named.keys() == grads.keys()
    largest = max(np.abs(g).max() for g in grads.values())
    for name, p in named.items():
        assert np.abs(p.grad.numpy() - grads[name]).max() < 1e-12 * largest, name
    theirs, ours = theirs.float(), ours.float()
    start = ids[:, :2]
    count = theirs.config.n_positions - 2
    greedy = theirs.generate(torch.tensor(start), max_new_tokens=count, min_new_tokens=count,
                             do_sample=False, pad_token_id=0)  # fmt: skip
    np.testing.assert_array_equal(
        ours.generate(tt.tensor(start), count, temperature=0).numpy(), greedy.numpy()
    )


@pytest.mark.parametrize("settings", CONFIGS.values(), ids=CONFIGS)
def test_in_and_out_against_transformers(tmp_path, settings):
    theirs = random_gpt2(**settings)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = GPT.from_pretrained(tmp_path / "theirs")
    assert not ours.training
    assert_same_model(ours, theirs)
    ours.save_pretrained(tmp_path / "ours")
    again, info = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    ids = ids_for(theirs.config)
    for (name, p), q in zip(again.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert relative(by_theirs(again.eval(), ids)[0], by_theirs(theirs, ids)[0]) < 1e-6
    np.testing.assert_array_equal(logits_of(GPT.from_pretrained(tmp_path / "ours"), ids),
                                  logits_of(ours, ids))  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
def test_a_model_of_ours_becomes_theirs(tmp_path, bias):
    tt.manual_seed(3)
    config = GPTConfig(vocab_size=41, block_size=12, n_layer=2, n_head=2, n_embd=8, bias=bias,
                       init_std=0.3, tie_weights=bias, norm_eps=1e-4)  # fmt: skip
    ours = GPT(config).eval()
    ours.save_pretrained(tmp_path)
    theirs, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    ids = ids_for(theirs.config)
    assert relative(by_theirs(theirs.eval(), ids)[0], logits_of(ours, ids)) < 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_storage_of_other_dtypes_is_widened_exactly(tmp_path, dtype):
    """transformers computing in float32 on those weights is the judge."""
    theirs = random_gpt2().to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert all(p.dtype == tt.float32 for p in ours.parameters())
    ids = ids_for(theirs.config)
    assert relative(logits_of(ours, ids), by_theirs(theirs.float(), ids)[0]) < 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_writing_other_dtypes_rounds_as_torch_does(tmp_path, dtype):
    theirs = random_gpt2()
    theirs.save_pretrained(tmp_path / "a")
    GPT.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b", dtype=dtype)
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "b", dtype=getattr(torch, dtype))
    for (name, p), q in zip(again.named_parameters(), theirs.parameters()):
        assert torch.equal(p, q.to(getattr(torch, dtype))), name


def layouts(folder, theirs):
    """The same weights in every layout that is about: {name: the folder}."""
    state = {k: v.contiguous() for k, v in theirs.state_dict().items() if k != "lm_head.weight"}
    bare = {k.removeprefix("transformer."): v for k, v in state.items()}
    buffers = {}
    for i in range(theirs.config.n_layer):  # as the files of 2019 have them
        buffers[f"h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, 16, 16)).bool()
        buffers[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    made = {}

    def layout(name):
        made[name] = folder / name
        made[name].mkdir()
        (made[name] / "config.json").write_text(json.dumps(theirs.config.to_dict()))
        return made[name]

    def arrays(tensors):
        return {k: v.numpy() for k, v in tensors.items()}

    save_safetensors(layout("no prefix") / "model.safetensors", arrays(bare))
    save_safetensors(layout("buffers") / "model.safetensors", arrays(bare | buffers))
    head = {"lm_head.weight": state["transformer.wte.weight"]}
    save_safetensors(layout("head present") / "model.safetensors", arrays(state | head))
    theirs.save_pretrained(layout("sharded"), max_shard_size="5KB")
    torch.save(theirs.state_dict(), layout("bin") / "pytorch_model.bin")
    torch.save(bare | buffers, layout("legacy bin") / "pytorch_model.bin",
               _use_new_zipfile_serialization=False)  # fmt: skip
    torch.save({k: v.bfloat16() for k, v in bare.items()}, layout("bf16 bin") / "pytorch_model.bin")
    sharded = layout("sharded bin")
    names, places = sorted(state), {}
    for i in range(2):
        file = f"pytorch_model-0000{i + 1}-of-00002.bin"
        torch.save({k: state[k] for k in names[i::2]}, sharded / file)
        places |= dict.fromkeys(names[i::2], file)
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return made


def test_every_layout_gives_the_same_model(tmp_path):
    theirs = random_gpt2()
    ids = ids_for(theirs.config)
    wanted = by_theirs(theirs, ids)[0]
    for name, folder in layouts(tmp_path, theirs).items():
        if name == "sharded":
            assert len(list(folder.glob("model-*.safetensors"))) > 1
        model = GPT.from_pretrained(folder)
        close = 2e-2 if name == "bf16 bin" else 1e-5
        assert relative(logits_of(model, ids), wanted) < close, name
        assert model.lm_head.weight is model.wte.weight, name


def test_a_head_that_differs_is_not_tied_whatever_the_config_says(tmp_path):
    """As transformers 5 decides, with a warning."""
    theirs = random_gpt2(tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path)
    edit(tmp_path, tie_word_embeddings=True)
    ours = GPT.from_pretrained(tmp_path)
    assert ours.lm_head.weight is not ours.wte.weight
    assert_same_model(ours, theirs)


# ------------------------------------------------------------------------------ other people's


def openai_arrays(model):
    """A GPT of ours by OpenAI's names: model/h0/attn/c_attn/w of shape (1, in, out)."""
    found = {}
    for name, p in model.named_parameters():
        array, parts = p.detach().numpy(), name.split(".")
        if parts[0] in ("wte", "wpe"):
            found[f"model/{parts[0]}"] = array
            continue
        where = [f"h{parts[1]}", *parts[2:-1]] if parts[0] == "h" else parts[:-1]
        conv = array.ndim == 2
        leaf = "b" if parts[-1] == "bias" else "w" if conv else "g"
        found["/".join(["model", *where, leaf])] = array.T[None] if conv else array
    return found


def test_openais_checkpoint(tmp_path):
    model = from_random(tmp_path / "hf")
    c = model.config
    write_bundle(tmp_path / "model.ckpt",
                 {k: np.ascontiguousarray(v) for k, v in openai_arrays(model).items()})  # fmt: skip
    (tmp_path / "hparams.json").write_text(json.dumps({
        "n_vocab": c.vocab_size, "n_ctx": c.block_size, "n_embd": c.n_embd, "n_head": c.n_head,
        "n_layer": c.n_layer}))  # fmt: skip
    ids = np.arange(16)[None] % c.vocab_size
    np.testing.assert_array_equal(logits_of(GPT.from_pretrained(tmp_path), ids),
                                  logits_of(model, ids))  # fmt: skip


@pytest.mark.parametrize("post", [True, False], ids=["course", "lecture"])
@pytest.mark.parametrize("how", ["pickled", "torch.save", "state_dict", "legacy"])
def test_a_model_of_the_course(tmp_path, monkeypatch, how, post):
    theirs = course_model(monkeypatch, post=post)
    path = tmp_path / "model-01.pkl"
    if how == "pickled":
        with path.open("wb") as file:
            pickle.dump(theirs, file)
    elif how == "legacy":
        torch.save(theirs, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(theirs if how == "torch.save" else theirs.state_dict(), path)
    ours = GPT.from_pretrained(path, **({} if post else {"norm_position": "pre"}))
    ids = np.random.default_rng(0).integers(0, 29, (3, 16))
    wanted = theirs(torch.tensor(ids))
    assert relative(logits_of(ours, ids), wanted.detach().numpy()) < 1e-5
    assert (ours.config.n_head, ours.config.n_layer, ours.config.block_size) == (4, 2, 16)
    _, loss = ours(tt.tensor(ids), tt.tensor(ids))
    loss.backward()
    torch.nn.functional.cross_entropy(wanted.flatten(0, 1), torch.tensor(ids).flatten()).backward()
    grad = theirs.blocks[1].sa.heads[2].key.weight.grad.numpy()  # the third of 4, the second kind
    mine = ours.h[1].attn.c_attn.weight.grad.numpy()[24 + 2 * 6 : 24 + 3 * 6]
    np.testing.assert_allclose(mine, grad, atol=1e-6)
    np.testing.assert_allclose(ours.lm_head.bias.grad.numpy(), theirs.lm_head.bias.grad.numpy(),
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpts_checkpoint(tmp_path, bias):
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=23, block_size=8, n_layer=2, n_head=2, n_embd=8, bias=bias,
                       activation="gelu")  # fmt: skip
    theirs = TorchGPT(config)
    names = {n: n if n.startswith("lm_head") else f"transformer.{n}" for n in theirs.state_dict()}
    args = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "bias": bias,
            "vocab_size": 23, "dropout": 0.1}  # fmt: skip
    torch.save({"model": {f"_orig_mod.{names[n]}": t for n, t in theirs.state_dict().items()},
                "optimizer": torch.optim.AdamW(theirs.parameters()).state_dict(),
                "model_args": args, "iter_num": 5, "best_val_loss": torch.tensor(1.5)},
               tmp_path / "ckpt.pt")  # fmt: skip
    ours = GPT.from_pretrained(tmp_path / "ckpt.pt")
    assert ours.config == replace(config, dropout=0.1)
    ids = np.random.default_rng(0).integers(0, 23, (2, 8))
    wanted, _ = theirs(torch.tensor(ids), torch.tensor(ids))
    assert relative(logits_of(ours, ids), wanted.detach().numpy()) < 1e-5


def test_a_state_dict_says_everything_but_its_heads(tmp_path):
    theirs = twin(GPT(GPTConfig(vocab_size=9, block_size=4, n_layer=1, n_head=2, n_embd=8)))
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    with pytest.raises(PretrainedError, match="how many heads it has: add --n-head"):
        GPT.from_pretrained(tmp_path / "x.pt")
    assert GPT.from_pretrained(tmp_path / "x.pt", n_head=2).config.n_head == 2


# ------------------------------------------------------------------------------ mistakes


def from_random(folder, **settings):
    random_gpt2(**settings).save_pretrained(folder)
    return GPT.from_pretrained(folder)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2") / "good"
    random_gpt2().save_pretrained(folder)
    return folder


def weights(change):
    """A folder whose arrays `change` has changed."""
    def broken(folder):
        path = folder / "model.safetensors"
        arrays = {name: array.copy() for name, array in load_safetensors(path).items()}
        save_safetensors(path, change(arrays) or arrays)

    return broken


def config(**changes):
    return lambda folder: edit(folder, **changes)


def without(name):
    return weights(lambda arrays: arrays.pop(name) is None or None)


def put(name, value):
    return weights(lambda arrays: arrays.update({name: value(arrays.get(name))}))


def filled(value):
    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array
    return change


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def lie(folder):
    """A header that says that a matrix is larger than it is."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b"[31,12]", b"[32,12]")
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])


def index(places):
    def broken(folder):
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(places))
    return broken


def only(text, name="config.json"):
    return lambda folder: (folder / name).write_text(text)


def binary(value):
    def broken(folder):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(value)
    return broken


H, W = "transformer.h.1.", "model.safetensors: transformer."
EMPTY = {"weight_map": {}}
MISTAKES = {
    "missing": (without(f"{H}ln_1.weight"), "lacks h.1.ln_1.weight"),
    "no embedding": (without("transformer.wte.weight"), "lacks wte.weight"),
    "untied, no head": (config(tie_word_embeddings=False), "lacks lm_head.weight"),
    "unexpected": (put("score.weight", lambda _: np.ones(3, "f4")), "score.weight: is no weight"),
    "another layer": (put("transformer.h.2.ln_1.bias", lambda _: np.ones(12, "f4")),
                      "weights of 3 blocks, and says n_layer = 2"),
    "transposed": (put(f"{H}attn.c_attn.weight", lambda a: a.T.copy()),
                   rf"{W}h.1.attn.c_attn.weight: has shape \(36, 12\), not \(12, 36\): it is tr"),
    "mis-shaped": (put(f"{H}mlp.c_fc.bias", lambda a: a[:-1]),
                   rf"{W}h.1.mlp.c_fc.bias: has shape \(47,\), not \(48,\)"),
    "scalar": (put(f"{H}ln_2.bias", lambda a: np.float32(1).reshape(())), r"has shape \(\)"),
    "integers": (put(f"{H}ln_2.bias", lambda a: a.astype("i4")), "is int32, and weights"),
    "NaN": (put(f"{H}mlp.c_proj.weight", filled(np.nan)), "1 of 576 values are NaN or infinite"),
    "infinity": (put("transformer.wpe.weight", filled(-np.inf)), f"{W}wpe.weight: 1 of 192"),
    "all NaN": (put(f"{H}ln_1.bias", lambda a: a * np.nan), "12 of 12 values"),
    "twice": (put("ln_f.bias", lambda _: np.ones(12, "f4")), "is there twice"),
    "vocabulary": (config(vocab_size=50257), "wte.weight: has 31 rows, .* vocab_size = 50,257"),
    "context": (config(n_positions=1024), "wpe.weight: has 16 rows, .* block_size = 1,024"),
    "width": (config(n_embd=15), "wte.weight: has 12 columns, .* n_embd = 15"),
    "layers": (config(n_layer=10**9), "weights of 2 blocks, and says n_layer = 1,000,000,000"),
    "heads": (config(n_head=5), "n_head = 5: must divide n_embd = 12"),
    "huge width": (config(n_embd=10**12 + 39), "n_head = 3: must divide n_embd"),
    "heads of text": (config(n_head="3"), "config.json: n_head = '3': must be a whole number"),
    "no vocabulary": (config(vocab_size=None), "vocab_size = None: must be a whole number"),
    "epsilon": (config(layer_norm_epsilon=0), "norm_eps = 0: must be above 0"),
    "other model": (config(model_type="llama"), "model_type is 'llama', and only 'gpt2'"),
    "activation": (config(activation_function="swish"), "activation_function = 'swish'"),
    "n_inner": (config(n_inner=100), "n_inner = 100: this GPT's MLP is 4 n_embd = 48"),
    "inverse layer": (config(scale_attn_by_inverse_layer_idx=True),
                      "scale_attn_by_inverse_layer_idx = True: this GPT has False only"),
    "upcast": (config(reorder_and_upcast_attn=True), "reorder_and_upcast_attn"),
    "unscaled": (config(scale_attn_weights=False), "scale_attn_weights = False"),
    "cross": (config(add_cross_attention=True), "add_cross_attention"),
    "truncated": (cut, "model.safetensors: .*goes beyond the file|truncated"),
    "header lies": (lie, "model.safetensors: transformer.wte.weight: shape"),
    "no JSON": (only("{"), "config.json: is not JSON"),
    "a list": (only("[]"), "config.json: is not a JSON object"),
    "no config": (lambda f: (f / "config.json").unlink(), "is no model's folder: it has none of"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights: neither"),
    "index of nothing": (index([]), "is not a JSON object"),
    "index of no map": (index({"weight_map": 3}), "has no weight_map"),
    "shard elsewhere": (index({"weight_map": {"a": "../../a"}}), "refuses '../../a'"),
    "shard gone": (index({"weight_map": {"a": "b.safetensors"}}), "b.safetensors: No such file"),
    "shard with more": (index({"weight_map": {"a": "a.safetensors"}}), "is not what"),
    "empty map": (index(EMPTY), "weights of 0 blocks|lacks wte.weight"),
    "bin of text": (binary(b"Once upon a time"), "pytorch_model.bin: is no pickle"),
    "bin of a list": (binary(pickle.dumps([1])), "holds no dict of arrays"),
    "bin of numbers": (binary(pickle.dumps({"a": 1})), "a: is no array with a name"),
    "bin with code": (binary(b"cos\nsystem\n(S'touch pwned'\ntR."), "refuses os.system"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_answered_in_a_sentence(good, tmp_path, name):
    change, words = MISTAKES[name]
    folder = tmp_path / "gpt2"
    shutil.copytree(good, folder)
    change(folder)
    with pytest.raises((PretrainedError, CheckpointError), match=words) as caught:
        GPT.from_pretrained(folder)
    assert is_mistake(caught.value) and str(folder) in str(caught.value)
    assert all(len(line) < 500 for line in str(caught.value).split("\n"))


def test_what_is_not_finite_can_be_asked_for(good, tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(good, folder)
    put(f"{H}ln_1.bias", lambda a: a * np.nan)(folder)
    model = GPT.from_pretrained(folder, allow_non_finite=True)
    assert model.h[1].ln_1.bias.isnan().all()


def test_many_problems_are_counted(good, tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(good, folder)
    weights(lambda a: {n: v for n, v in a.items() if not n.endswith("bias")})(folder)
    with pytest.raises(PretrainedError) as caught:
        GPT.from_pretrained(folder)
    assert len(str(caught.value).split("\n")) == 9 and "and 5 more" in str(caught.value)


def test_paths_that_are_no_model(tmp_path):
    (tmp_path / "x.txt").write_text("once")
    (tmp_path / "empty").mkdir()
    for path, words in {"gone": "no such file or folder", "empty": "no model's folder",
                        "x.txt": "no pickle"}.items():  # fmt: skip
        with pytest.raises((PretrainedError, CheckpointError), match=words):
            GPT.from_pretrained(tmp_path / path)


@pytest.mark.parametrize("tree, words", [
    ({"a": 1}, "is no GPT known here: it has no weights"),
    ({"a": np.ones(2)}, "weights such as a"),
    ({"wte.weight": np.ones((3, 2))}, "lacks h.0.attn.c_attn.weight"),
    ({"wte.weight": np.ones(3)}, "wte.weight: is no matrix"),
    ({"token_embedding_table.weight": np.ones((3, 3))}, "a bigram model"),
    ({"token_embedding_table.weight": np.ones((3, 4)),
      "blocks.0.sa.heads.0.key.weight": np.ones((2, 4))}, "lacks blocks.0.sa.heads.0.query.weight"),
    ({"model_args": 3}, "are no settings"),
    ({"config": 1, "weights": 2}, "no valid version, config and weights"),
    ({"version": 9, "config": {}, "weights": {}}, "version 9, .* a newer one"),
    ({"version": 1, "config": {"n_head": -1}, "weights": {}}, "n_head = -1: must be at least 1"),
    ({"version": 1, "config": {"quux": 1}, "weights": {}}, "quux"),
    ({"version": 1, "config": {}, "weights": {"a": 1}}, "a: is no array"),
])  # fmt: skip
def test_files_that_are_no_model(tmp_path, tree, words):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree))
    with pytest.raises(PretrainedError, match=words) as caught:
        open_source(tmp_path / "x.pkl")
    assert str(tmp_path / "x.pkl") in str(caught.value)


def test_what_gpt2_cannot_be_is_not_written(tmp_path):
    small = GPTConfig(vocab_size=9, block_size=4, n_layer=1, n_head=1, n_embd=4)
    for setting in ({"norm_position": "post"}, {"head_bias": True}):
        with pytest.raises(PretrainedError, match="GPT-2 does not have"):
            GPT(replace(small, **setting)).save_pretrained(tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(PretrainedError, match="choose another folder"):
        GPT(small).save_pretrained(tmp_path / "file")


def test_a_pickle_of_ours_comes_back(tmp_path):
    small = GPTConfig(vocab_size=9, block_size=4, n_layer=1, n_head=1, n_embd=4)
    model = GPT(small).eval()
    save_model(tmp_path / "m.pkl", small, model.state_dict(), step=3)
    assert open_source(tmp_path / "m.pkl").about == {"step": 3}
    again = GPT.from_pretrained(tmp_path / "m.pkl")
    for p, q in zip(again.parameters(), model.parameters()):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    plain = pickle.loads((tmp_path / "m.pkl").read_bytes())  # Python's own reader, too
    assert plain["config"]["n_embd"] == 4 and plain["weights"]["wte.weight"].shape == (9, 4)


def test_loading_leaves_the_random_numbers_alone(good):
    tt.manual_seed(1)
    wanted = tt.rand(3).tolist()
    tt.manual_seed(1)
    GPT.from_pretrained(good)
    assert tt.rand(3).tolist() == wanted


MEASURE = """
import resource, sys
import numpy, tinytensor, gpt.model, gpt.huggingface, gpt.foreign
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = gpt.model.GPT.from_pretrained(sys.argv[1])
parts = [p.array.nbytes for p in model.parameters()]
print(peak() - before, sum(parts), max(parts))
"""


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bin"])
@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux counts")
def test_memory_is_the_weights_and_one_tensor_more(tmp_path, repo, kind):
    """A folder of 34M weights: the file is not in memory beside the model."""
    config = GPTConfig(vocab_size=2000, block_size=64, n_layer=12, n_head=8, n_embd=480)
    with tt.nn.init.skipped():
        model = GPT(config)
    with tt.no_grad():
        for p in model.parameters():
            p.fill_(0.01)
    model.save_pretrained(tmp_path, dtype="float32" if kind == "bin" else kind)
    if kind == "bin":
        arrays = load_safetensors(tmp_path / "model.safetensors")
        torch.save({n: torch.tensor(a) for n, a in arrays.items()}, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    out = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], cwd=repo,
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    grown, total, largest = map(int, out.split())
    assert total > 130e6
    assert grown < total + largest + 8e6  # of which 8 MB for the allocator, imports and file pages
