"""How fast things are. Every claim is a ratio, measured side by side in one run."""
