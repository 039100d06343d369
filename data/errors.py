"""What corpora raise for a user's mistake; commands print it and exit with code 2."""


class DataError(ValueError):
    """Bad input: the message names the file, flag, byte or number at fault, and the fix."""
