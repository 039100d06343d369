"""Mixed precision: `tt.autocast` and `tt.amp.GradScaler`, PyTorch's names."""

from .autocast import autocast as autocast
from .autocast import get_autocast_dtype as get_autocast_dtype
from .autocast import is_autocast_cache_enabled as is_autocast_cache_enabled
from .autocast import is_autocast_enabled as is_autocast_enabled
from .grad_scaler import GradScaler as GradScaler
