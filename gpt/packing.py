"""A state_dict in two parts: arrays by path, for safetensors, and the rest, for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def arrays_of(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A flat state_dict's arrays, in the host's memory."""
    return {name: np.ascontiguousarray(t.numpy(force=True)) for name, t in tensors.items()}


def pack(tree: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Split a state_dict: its arrays by path, and the rest as JSON with `{"array": path}` in it."""
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            return {str(key): walk(value, f"{path}.{key}") for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value, f"{path}.{i}") for i, value in enumerate(node)]
        if hasattr(node, "numpy"):
            arrays[path[1:]] = np.ascontiguousarray(node.numpy(force=True))
            return {"array": path[1:]}
        return node

    rest = walk(tree, "")
    return arrays, rest


def unpack(arrays: Mapping[str, np.ndarray], node: Any) -> Any:
    """Undo `pack`; KeyError names an array that is not there.

    JSON has no integer keys, state_dicts do: keys of digits become integers.
    """
    if isinstance(node, dict):
        if node.keys() == {"array"}:
            return arrays[node["array"]]
        return {int(k) if k.isdecimal() else k: unpack(arrays, v) for k, v in node.items()}
    if isinstance(node, list):
        return [unpack(arrays, value) for value in node]
    return node
