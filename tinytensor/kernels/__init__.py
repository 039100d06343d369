"""Fast versions of some ops for one device. Overrides, never definitions: see Op.kernel."""

from . import cpu as cpu
from . import cuda as cuda
from . import memory as memory
from . import products as products
