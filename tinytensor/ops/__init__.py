"""Every op with its rules, one subject a file: reference implementations that read like maths."""
