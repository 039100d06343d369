"""A part of mutations.py in every run: one wrong rule for each argument of each op."""

import random

import mutations
import pytest
import test_registry

import tinytensor as tt


@pytest.mark.parametrize("name", test_registry.DIFFERENTIABLE)
def test_wrong_rules_are_noticed(name):
    op = tt.REGISTRY[name]
    drawn = random.Random(name)
    everything = list(mutations.mutations(op))
    one_each = [drawn.choice([m for m in everything if m[0] == a]) for a in op.rules]
    missed, _ = mutations.survivors(name, one_each)
    assert not missed


def test_a_wrong_rule_that_is_not_noticed_is_reported(monkeypatch):
    monkeypatch.setattr(mutations, "noticed", lambda name: False)
    missed, count = mutations.survivors("tanh")
    assert len(missed) == count >= 5 and "tanh, rule for x: sign" in missed


def test_what_was_planted_is_taken_out_again():
    op = tt.REGISTRY["mul"]
    before = [(r.function, r.kernels) for r in op.rules.values()]
    mutations.survivors("mul")
    assert [(r.function, r.kernels) for r in op.rules.values()] == before


def test_an_op_whose_samples_have_no_gradient_is_reported(monkeypatch):
    monkeypatch.setattr(mutations, "STEPS", mutations.STEPS - {"sign.x"})
    assert any("no sample has a gradient" in m for m in mutations.survivors("sign")[0])
