"""svd, solve and einsum, beyond PyTorch's samples: what is undetermined, and what goes wrong."""

import math

import numpy as np
import pytest

import tinytensor as tt

torch = pytest.importorskip("torch")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def of_svd(u, s, vh):
    """A number that does not depend on the signs of U and V."""
    return (
        (u**2 * s[..., None, :] ** 3).sum()
        + (vh**2 * s[..., :, None]).sum()
        + ((u @ vh) ** 3).sum()
    )


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 3), (2, 2, 5)])
def test_svd_value_gradient_and_second_gradient(shape):
    a = normal(*shape)
    x, y = tt.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    mine, theirs = tt.linalg.svd(x, False), torch.linalg.svd(y, full_matrices=False)
    np.testing.assert_allclose((mine.U * mine.S[..., None, :] @ mine.Vh).numpy(force=True), a)
    g = tt.autograd.grad(of_svd(*mine), x, create_graph=True)[0]
    h = torch.autograd.grad(of_svd(*theirs), y, create_graph=True)[0]
    np.testing.assert_allclose(g.numpy(force=True), h.detach().numpy(), 1e-8, 1e-9)
    g2 = tt.autograd.grad((g * g).sum(), x)[0]
    h2 = torch.autograd.grad((h * h).sum(), y)[0]
    np.testing.assert_allclose(g2.numpy(), h2.numpy(), 1e-6, 1e-7)


def test_full_svd_has_a_gradient_for_the_singular_values_only():
    x = tt.tensor(normal(3, 2), requires_grad=True)
    u, s, vh = tt.linalg.svd(x)
    assert u.shape == (3, 3) and vh.shape == (2, 2)
    assert s.requires_grad and not u.requires_grad and not vh.requires_grad


def test_singular_matrices_are_named():
    with pytest.raises(tt.errors.SingularError, match="inv: x .* is singular"):
        tt.linalg.inv(tt.ones(2, 2))
    with pytest.raises(RuntimeError, match="solve: x .* is singular"):
        tt.linalg.solve(tt.ones(2, 2), tt.ones(2))


def test_determinant_of_a_singular_matrix_has_its_cofactors_as_gradient():
    x = tt.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=tt.float64, requires_grad=True)
    tt.linalg.det(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), [[4, -2], [-2, 1]], atol=1e-12)


EQUATIONS = [
    "bhqd,bhkd->bhqk", "ij,jk,kl->il", "ii->", "ii->i", "i,i->i", "abc,cd", "...ij,jk->...ik",
    "ij->ji", "bij,bjk,bkl->bil", "i,j,k->ijk", "aab,bc->ca", "ij,ij->", "ab...,b...->a...",
    "ba,c", "a,a,a->",
]  # fmt: skip
SIZES = dict(zip("abcdhijklq", (2, 3, 4, 5, 2, 3, 4, 2, 3, 5)))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation):
    arrays = []
    for i, part in enumerate(equation.partition("->")[0].split(",")):
        shape = [n for c in part.replace("...", ".") for n in ((2, 3) if c == "." else (SIZES[c],))]
        arrays.append(normal(*shape, seed=i))
    xs = [tt.tensor(a, requires_grad=True) for a in arrays]
    ys = [torch.tensor(a, requires_grad=True) for a in arrays]
    mine, theirs = tt.einsum(equation, *xs), torch.einsum(equation, *ys)
    np.testing.assert_allclose(mine.numpy(force=True), theirs.detach().numpy(), 1e-9, 1e-12)
    (mine * mine).sum().backward()
    (theirs * theirs).sum().backward()
    for x, y in zip(xs, ys):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), 1e-8, 1e-10)


def test_einsum_from_lists_of_indices():
    x, y = tt.tensor(normal(2, 3)), tt.tensor(normal(3, 4))
    out = tt.einsum(x, [0, 1], y, [1, 2], [2, 0])
    np.testing.assert_allclose(out.numpy(), (x.numpy() @ y.numpy()).T)


@pytest.mark.parametrize(
    "equation, message",
    [
        ("ij,jk->ik", "names 2 operands, but there are 1"),
        ("ijk->i", "names the dims of an operand that has 2"),
        ("ij->k", "'k' in the result must occur in an operand"),
        ("ij->ii", "once in the result"),
        ("i1->i", "must be letters"),
    ],
)
def test_einsum_says_what_is_wrong(equation, message):
    with pytest.raises(RuntimeError, match=message):
        tt.einsum(equation, tt.ones(2, 3))


def test_einsum_names_the_sizes_that_clash():
    with pytest.raises(RuntimeError, match=r"index 'j' is 3 elsewhere, 4 in operand 1 \(4, 2\)"):
        tt.einsum("ij,jk->ik", tt.ones(2, 3), tt.ones(4, 2))


def test_multi_dot_takes_the_cheap_order():
    """(10, 100) (100, 5) (5, 50): 7500 products from the left, 75000 from the right."""
    xs = [tt.tensor(normal(*s)) for s in ((10, 100), (100, 5), (5, 50))]
    seen = []
    plain = tt.ops.products.matmul
    tt.ops.products.matmul = lambda x, y: seen.append((x.shape, y.shape)) or plain(x, y)
    try:
        out = tt.linalg.multi_dot(xs)
    finally:
        tt.ops.products.matmul = plain
    assert seen == [((10, 100), (100, 5)), ((10, 5), (5, 50))]
    np.testing.assert_allclose(out.numpy(), np.linalg.multi_dot([x.numpy() for x in xs]))


def test_norms_at_zero_have_derivative_zero():
    for p in (0, 0.5, 1, 2, 3, math.inf):
        x = tt.zeros(3, dtype=tt.float64, requires_grad=True)
        tt.linalg.vector_norm(x, p).backward()
        assert x.grad.tolist() == [0, 0, 0], p
