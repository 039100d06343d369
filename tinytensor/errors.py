"""Every error the engine raises, each of the class PyTorch raises for the same mistake.

A message names the op, the arguments, their shapes and the fix:
`matmul: x (4, 3) and y (5, 2): the last axis of x is 3, the first of y is 5`.
"""


class TinyTensorError(Exception):
    """Base of all errors below: `except tt.errors.TinyTensorError` catches them all."""


class ShapeError(TinyTensorError, RuntimeError, ValueError):
    """Shapes that do not fit together."""


class RaggedError(ShapeError, TypeError):
    """Nested lists that are no array: numbers beside lists, lists of several lengths."""


class DimError(TinyTensorError, IndexError):
    """A dimension (axis) or an index outside of the tensor."""


class RangeError(DimError, RuntimeError):
    """An index outside of the tensor, in ops where PyTorch calls that a RuntimeError."""


class DtypeError(TinyTensorError, NotImplementedError, TypeError):
    """A dtype that the op cannot work with. (A NotImplementedError is a RuntimeError.)"""


class ArgumentError(TinyTensorError, TypeError, ValueError, RuntimeError):
    """An argument of the wrong kind or value: a list where a Tensor belongs, a negative count."""


class DivisionError(TinyTensorError, RuntimeError, ZeroDivisionError):
    """An integer divided by zero; floats give inf or NaN."""


class SingularError(TinyTensorError, RuntimeError):
    """A matrix without an inverse."""


class GraphError(TinyTensorError, RuntimeError):
    """Backward cannot run: no graph, a graph used twice, a missing gradient."""


class InPlaceError(GraphError):
    """A value saved for backward was overwritten, or a leaf was changed in place."""


class ExportError(GraphError, BufferError):
    """A tensor that requires grad, handed to a library that would lose its graph."""


class NotDifferentiable(GraphError, NotImplementedError):
    """An op has no rule for an argument that needs a gradient."""


class GradcheckError(TinyTensorError, RuntimeError):
    """A gradient that disagrees with finite differences."""


class NonFiniteError(TinyTensorError, RuntimeError, FloatingPointError):
    """An inf or a NaN where `detect_anomaly` watches for one."""


class DeviceError(TinyTensorError, RuntimeError, TypeError):
    """A device that is not there, or two devices in one op."""


class CheckpointError(TinyTensorError, RuntimeError, ValueError):
    """A file of weights that is damaged, foreign or does not fit the model."""
