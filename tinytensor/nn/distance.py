"""Similarity and distance as modules of two inputs. The maths is in ops/length.py."""

from . import functional as F
from .of_function import module

CosineSimilarity = module("CosineSimilarity", F.cosine_similarity, dim=1, eps=1e-8)
PairwiseDistance = module(
    "PairwiseDistance", F.pairwise_distance, p=2.0, eps=1e-6, keepdim=False
)
