"""Settings: where values come from, what is refused, and that nothing is refused silently."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import config as c
from gpt import config_text
from gpt.errors import ConfigError
from gpt.options import InvalidGroup, Parser, settings


def problems(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        c.from_command_line(argv)
    return caught.value.problems


def values_for(f: dataclasses.Field) -> st.SearchStrategy:
    bounds = f.metadata
    if "choices" in bounds:
        return st.sampled_from(bounds["choices"])
    if f.type is bool:
        return st.booleans()
    if f.type is int:
        low = bounds.get("at_least", 0)
        return st.integers(low, min(bounds.get("below", 2**31), 2**64) - 1)
    if f.type is float:
        low = bounds.get("at_least", bounds.get("above"))
        return st.floats(low, bounds.get("below", 1e9), exclude_min="above" in bounds,
                         exclude_max="below" in bounds)
    if "pattern" in bounds:
        return st.from_regex(bounds["pattern"], fullmatch=True)
    return st.text(st.characters(codec="utf-8"))


def instances(cls: type) -> st.SearchStrategy:
    """Any valid instance: every combination of in-bounds values that breaks no rule."""
    fields = {n: values_for(f) for n, f in c.own_settings(cls).items()}
    parts = {n: instances(g) for n, g in c.groups(cls).items()}

    def construct(values: dict) -> object:
        if {"n_head", "n_embd"} <= values.keys():
            values["n_embd"] = values["n_head"] * (1 + values["n_embd"] % 64)
        if "min_lr" in values:
            values["min_lr"] = min(values["min_lr"], values["lr"])
            values["warmup_steps"] = min(values["warmup_steps"], values["max_steps"])
            values["decay_steps"] = max(values["decay_steps"], values["warmup_steps"])
        if values.get("init_from") == "":
            values["lora_rank"] = 0
        if values.get("model") == "bigram":
            off = {"finetune": c.FinetuneConfig(), "run": c.RunConfig(), "data": c.DataConfig()}
            values |= off
        return cls(**values)

    return st.fixed_dictionaries(fields | parts).map(construct)


def test_defaults_then_preset_then_file_then_flags(tmp_path):
    assert c.GPTConfig().n_layer == 12  # GPT-2's
    assert c.from_command_line(["--preset", "shakespeare-cpu"]).gpt.n_layer == 4
    file = tmp_path / "mine.toml"
    file.write_text('preset = "shakespeare-cpu"\nlr = 5e-3\n[gpt]\nn_layer = 3\nn_head = 2\n')
    config = c.from_command_line(["--config", str(file), "--n-layer", "2"])
    assert (config.preset, config.optim.lr) == ("shakespeare-cpu", 5e-3)
    assert (config.gpt.n_layer, config.gpt.n_head, config.gpt.n_embd) == (2, 2, 128)
    assert c.from_command_line(["--config", str(file), "--preset", "tales"]).data.data == "tales"


@given(instances(c.Config))
def test_a_written_config_reads_back_equal(tmp_path_factory, config):
    config = dataclasses.replace(config, preset="tales")
    file = tmp_path_factory.mktemp("toml") / "config.toml"
    file.write_text(config_text.to_toml(config), "utf-8")
    assert c.from_command_line(["--config", str(file)]) == config


@pytest.mark.parametrize("text", ['"', "\\", "\x7f", "\x00\t\n", "é\u2028😀", "#", "a = 1\nb"])
def test_any_text_can_be_written(tmp_path, text):
    config = c.Config(data=c.DataConfig(data=text), run=c.RunConfig(out=text))
    (tmp_path / "c.toml").write_text(config_text.to_toml(config), "utf-8")
    assert c.from_command_line(["--config", str(tmp_path / "c.toml")]) == config


@pytest.mark.parametrize("name", sorted(p.stem for p in c.PRESETS.glob("*.toml")))
def test_presets_are_valid(name):
    assert c.from_command_line(["--preset", name]).preset == name


def test_shakespeare_cpu_is_nanogpts():
    config = c.from_command_line(["--preset", "shakespeare-cpu"])
    gpt, optim = config.gpt, config.optim
    assert (gpt.n_layer, gpt.n_head, gpt.n_embd, gpt.block_size) == (4, 4, 128, 64)
    assert (gpt.dropout, gpt.bias, config.data.batch_size) == (0, False, 12)
    assert (optim.max_steps, optim.lr, optim.min_lr, optim.warmup_steps) == (2000, 1e-3, 1e-4, 100)
    assert (optim.beta1, optim.beta2, optim.weight_decay, optim.grad_clip) == (0.9, 0.99, 0.1, 1)


def test_all_problems_are_reported_at_once():
    found = problems(
        "--n-head", "5", "--n-embd", "128", "--lr", "-1e-3", "--min-lr", "nan", "--n-layers", "5",
        "--seed", "foo", "stray", "--device", "gpu", "--dropout", "1", "--beta1",
    )  # fmt: skip
    assert sorted(found) == sorted([
        "--n-head 5: must divide n_embd = 128, as 4 or 8 would",
        "--lr -0.001: must be above 0",
        "--min-lr nan: must be finite",
        "unknown flag --n-layers; did you mean '--n-layer'?",
        "--seed foo: must be a whole number",
        "unexpected argument 'stray'",
        "--device gpu: must be cpu, cuda, cuda:N or auto",
        "--dropout 1.0: must be below 1.0",
        "--beta1: needs a value",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--preset", "shakespeare"], ["--preset shakespeare", "'shakespeare-cpu'"]),
        (["--preset", "../tales"], ["--preset ../tales"]),
        (["--lr", "1e-5", "--min-lr", "1e-4"], ["--min-lr 0.0001", "lr = 1e-05"]),
        (["--preset", "shakespeare-cpu", "--lr", "1e-5"], ["min_lr = 0.0001", "lr = 1e-05"]),
        (["--max-steps", "9", "--warmup-steps", "10"], ["--warmup-steps 10", "max_steps = 9"]),
        (["--max-steps", "1.5"], ["--max-steps 1.5", "whole number"]),
        (["--max-steps", "0"], ["--max-steps 0", "at least 1"]),
        (["--lr", "inf"], ["--lr inf", "finite"]),
        (["--val-fraction", "0"], ["--val-fraction 0.0", "above 0"]),
        (["--model", "gtp"], ["--model gtp", "gpt, bigram"]),
        (["--seed", str(2**64)], ["--seed", "below"]),
        (["--tokenizer", "bpe"], ["--tokenizer bpe", "--vocab-size"]),
        (["--decay-steps", "9"], ["--decay-steps 9", "warmup_steps = 100"]),
        (["--log-to", "tensorboard;wandb"], ["--log-to", "with a comma"]),
        (["--config", "absent.toml"], ["--config absent.toml", "No such file"]),
    ],
)
def test_one_mistake_is_one_sentence_that_names_it(argv, words):
    (problem,) = problems(*argv)
    assert all(word in problem for word in words), problem


@pytest.mark.parametrize(
    "text, words",
    [
        ("n_layers = 3", ["unknown setting n_layers", "'n_layer'"]),
        ("[optimm]\nlr = 1", ["unknown table [optimm]", "'optim'"]),
        ("[optim]\nn_layer = 3", ["unknown setting optim.n_layer"]),
        ("[gpt]\nn_layer = 2.5", ["n_layer = 2.5", "whole number"]),
        ("[gpt]\nn_layer = true", ["n_layer = True", "whole number"]),
        ("bias = 1", ["bias = 1", "true or false"]),
        ("lr = [1]", ["lr = [1]", "must be a number"]),
        ("lr = = 1", ["not TOML", "line 1"]),
        ("out = 3", ["out = 3", "must be text"]),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    (problem,) = problems("--config", str(file))
    assert all(word in problem for word in [str(file), *words]), problem


def test_an_invalid_group_cannot_exist():
    with pytest.raises(InvalidGroup, match="n_head = 5: must divide n_embd = 768"):
        c.GPTConfig(n_head=5)
    with pytest.raises(ConfigError, match="lr = nan: must be finite"):
        c.OptimConfig(lr=float("nan"))
    with pytest.raises(ConfigError, match="n_layer = '3': must be a whole number"):
        dataclasses.replace(c.GPTConfig(), n_layer="3")


@given(st.lists(st.sampled_from([*settings(c.Config), "help", "x"]).map(
    lambda n: "--" + n.replace("_", "-")) | st.text(max_size=5), max_size=6))
def test_any_command_line_is_a_config_help_or_problems(argv):
    try:
        c.from_command_line(argv)
    except ConfigError as error:
        assert error.problems and all(error.problems)
    except SystemExit as stop:
        assert stop.code == 0 and {"-h", "--help"} & set(argv)


def test_a_dash_may_start_a_value():
    space, values, found = Parser(c.Config).read(["--out", "-runs", "--lr=-1", "--bias"])
    assert (values, found) == ({"out": "-runs", "lr": -1.0, "bias": True}, [])


def test_help_shows_the_presets_values_and_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        c.from_command_line(["--preset", "bigram", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "optimizer steps (default: 3000)" in text
    for name, f in settings(c.Config).items():
        assert (c.flag_of(name) in text) == f.metadata["flag"]


def test_needs_the_standard_library_alone(repo):
    code = "import sys, gpt.config; print([m for m in ('numpy', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-S", "-c", code], cwd=repo, capture_output=True,
                         text=True, check=True).stdout  # fmt: skip
    assert out.strip() == "[]"
