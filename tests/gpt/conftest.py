"""A run that took no training."""

import pytest

SMALL_CHARS = "\n abcdeé€.T"


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder with one checkpoint: a random GPT over SMALL_CHARS that sees 16 characters."""
    import tinytensor as tt
    from gpt import checkpoint
    from gpt.config import Config, GPTConfig
    from gpt.model import GPT
    from gpt.tokenizers import CharTokenizer
    from gpt.train import build_optimizer

    folder = tmp_path_factory.mktemp("run")
    tokenizer = CharTokenizer(SMALL_CHARS)
    gpt = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8,
                    init_std=0.3)  # fmt: skip
    config = Config(gpt=gpt)
    tt.manual_seed(0)
    model = GPT(gpt)
    (folder / "checkpoints").mkdir()
    optimizer = build_optimizer(model, config.optim)
    checkpoint.save(folder / "checkpoints", 1, model, optimizer, tokenizer, config)
    return folder
