"""Losses as modules. The maths is in ops/cross_entropy.py and ops/losses.py."""

from __future__ import annotations

from ..errors import ArgumentError
from ..ops.losses import REDUCTIONS
from ..tensor import Tensor
from . import functional as F
from .module import Module
from .of_function import module


class _Loss(Module):
    def __init__(self, *, reduction: str = "mean"):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ArgumentError(
                f"{type(self).__name__}: reduction must be one of {REDUCTIONS}, got {reduction!r}"
            )
        self.reduction = reduction


class MSELoss(_Loss):
    """(input - target)^2, averaged, summed or per element"""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class NLLLoss(_Loss):
    """-input[target] for log-probabilities input (N, C, ...); weight (C,): a factor per class"""

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ):
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    weight: Tensor | None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        options = {"ignore_index": self.ignore_index, "reduction": self.reduction}
        return F.nll_loss(input, target, self.weight, **options)


class CrossEntropyLoss(NLLLoss):
    """-ln softmax(input)[target] for logits input (N, C, ...); target of class numbers or
    probabilities"""

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):  # fmt: skip
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        if not 0 <= label_smoothing <= 1:
            raise ArgumentError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1], got {label_smoothing}"
            )
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip


class BCELoss(_Loss):
    """-(target ln input + (1 - target) ln(1 - input)) for probabilities input; weight: a factor"""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(BCELoss):
    """BCELoss of sigmoid(input), without forming it; pos_weight: a factor for the target 1"""

    pos_weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ):  # fmt: skip
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        options = {"reduction": self.reduction, "pos_weight": self.pos_weight}
        return F.binary_cross_entropy_with_logits(input, target, self.weight, **options)


_MEAN = {"reduction": "mean"}
L1Loss = module("L1Loss", F.l1_loss, **_MEAN)
SmoothL1Loss = module("SmoothL1Loss", F.smooth_l1_loss, **_MEAN, beta=1.0)
HuberLoss = module("HuberLoss", F.huber_loss, **_MEAN, delta=1.0)
KLDivLoss = module("KLDivLoss", F.kl_div, **_MEAN, log_target=False)
PoissonNLLLoss = module(
    "PoissonNLLLoss", F.poisson_nll_loss, log_input=True, full=False, eps=1e-8, **_MEAN
)
GaussianNLLLoss = module("GaussianNLLLoss", F.gaussian_nll_loss, full=False, eps=1e-6, **_MEAN)
MarginRankingLoss = module("MarginRankingLoss", F.margin_ranking_loss, margin=0.0, **_MEAN)
HingeEmbeddingLoss = module("HingeEmbeddingLoss", F.hinge_embedding_loss, margin=1.0, **_MEAN)
SoftMarginLoss = module("SoftMarginLoss", F.soft_margin_loss, **_MEAN)
CosineEmbeddingLoss = module("CosineEmbeddingLoss", F.cosine_embedding_loss, margin=0.0, **_MEAN)
TripletMarginLoss = module(
    "TripletMarginLoss", F.triplet_margin_loss, margin=1.0, p=2.0, eps=1e-6, swap=False, **_MEAN
)
MultiLabelSoftMarginLoss = module(
    "MultiLabelSoftMarginLoss", F.multilabel_soft_margin_loss, weight=None, **_MEAN
)
