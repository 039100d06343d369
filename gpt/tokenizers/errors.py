"""What tokenizers raise for a user's mistake; commands print it and exit with code 2."""

from gpt.errors import UserError


class TokenizerError(UserError, ValueError):
    """A text, an id or a file that the tokenizer cannot use."""


class UnknownCharacter(TokenizerError):
    """A character outside the vocabulary: `char` at `position` (in code points) of the text."""

    def __init__(self, message: str, char: str, position: int) -> None:
        super().__init__(message)
        self.char, self.position = char, position

    def __reduce__(self) -> tuple:  # a worker sends it home
        return type(self), (str(self), self.char, self.position)
