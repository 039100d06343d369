"""`--resume RUN`: the run at a path, locked, with the checkpoint it goes on from."""

from pathlib import Path

from .checkpoint import Checkpoint, CheckpointError
from .config import CommandLine, Config, ConfigError, build, read_toml
from .run import Run


def reopen(asked: CommandLine) -> tuple[Run, Checkpoint | None, Config]:
    """The run that `asked.resume` names, its last checkpoint, and its settings from here on.

    A run that was killed before its first checkpoint starts over, with the settings in config.toml.
    """
    path = Path(asked.resume or "").expanduser()
    new = (path / "config.toml").is_file() and not any((path / "checkpoints").glob("[0-9]*"))
    run = Run(path if new else Checkpoint.find(path).path.parent.parent)
    try:
        if new:
            return run, None, asked.resumed(config_of(path))
        saved = Checkpoint.find(run.path)  # asked again, now that nobody else can save
        if path.resolve() not in (run.path.resolve(), saved.path.resolve()):
            raise CheckpointError(
                f"--resume {path}: is not the last checkpoint of {run.path}, which is "
                f"{saved.path.name}: remove those after it to go on from there"
            )
        config = asked.resumed(saved.config)
        if saved.step >= config.optim.max_steps != saved.config.optim.max_steps:
            raise ConfigError([f"--max-steps {config.optim.max_steps}: {run.path} has done "
                               f"{saved.step} steps: --resume goes on from there"])
        return run, saved, config
    except BaseException:
        run.close()
        raise


def config_of(path: Path) -> Config:
    """The settings in a run's config.toml."""
    problems: list[str] = []
    values = read_toml(path / "config.toml", problems)
    if problems:
        raise ConfigError(problems)
    return build(Config, values, {})
