# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"
# mypy: disable-error-code="import-untyped, import-not-found"
"""The Triton kernels. M rows, K inputs, N outputs of the frozen layer, r the rank, R its padding.

Every tensor is read by rows that lie densely, but W, which may be transposed as a whole. Rank and
dropout factors are in S and dS already: ``S = scale·x̂·Aᵀ`` (M, r), ``dS = scale·(dY·B)`` (M, r).
Sums over several programs are written side by side and added up afterwards: no atomics, so that
results repeat bit by bit. Sums are float32.

Source: the plan in LoRAFusion (Zhu et al., EuroSys 2026) of splitting LoRA's graph at S; the
grouped order of tiles is that of Triton's matrix multiplication tutorial. Differences: gradients
without atomics, dropout by seed, bias, and one kernel for y and dX.
"""

import triton
import triton.language as tl


@triton.jit
def _kept(rows, columns, seed, threshold):
    """Whether each element of a matrix survives: Philox of (column, row), of 2³² - threshold."""
    zero = columns[None, :] * 0 + rows[:, None] * 0
    word, _, _, _ = tl.philox(seed, columns[None, :] + zero, rows[:, None] + zero, zero, zero)
    return word >= tl.cast(threshold, tl.uint32)


@triton.jit
def keep(out, m, n, threshold, seed, BM: tl.constexpr, BN: tl.constexpr):
    """Into out (m, n): 1 where an element survives dropout, else 0; int8."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    out_at = out + rows.to(tl.int64)[:, None] * n + columns[None, :]
    kept = _kept(rows, columns, seed, threshold).to(tl.int8)
    tl.store(out_at, kept, mask=(rows < m)[:, None] & (columns < n)[None, :])


@triton.jit
def shrink(
    x, a, s, m, k, r, factor, threshold, seed,
    DROPS: tl.constexpr, EVEN_K: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Into s (M, r): factor · (x (M, K) ⊙ mask) · a (r, K)ᵀ; a program for BM rows."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    ranks, ks = tl.arange(0, R), tl.arange(0, BK)
    x_at = x + (rows % m).to(tl.int64)[:, None] * k + ks[None, :]
    a_at = a + ranks[None, :] * k + ks[:, None]
    acc = tl.zeros((BM, R), tl.float32)
    for start in range(0, k, BK):
        inside = ks < k - start
        if EVEN_K:  # noqa: SIM108 - Triton's own condition
            x_tile = tl.load(x_at)
        else:
            x_tile = tl.load(x_at, mask=inside[None, :], other=0.0)
        a_tile = tl.load(a_at, mask=inside[:, None] & (ranks < r)[None, :], other=0.0)
        if DROPS:
            x_tile = tl.where(_kept(rows, start + ks, seed, threshold), x_tile, 0.0)
        acc = tl.dot(x_tile, a_tile, acc, input_precision=PRECISION)
        x_at += BK
        a_at += BK
    s_at = s + rows.to(tl.int64)[:, None] * r + ranks[None, :]
    inside = (rows < m)[:, None] & (ranks < r)[None, :]
    tl.store(s_at, (acc * factor).to(s.dtype.element_ty), mask=inside)


@triton.jit
def gemm(
    p, q, u, v, bias, c, ids, m, n, k, r, lead_q, lead_v, threshold, seed,
    Q_BY_K: tl.constexpr, V_BY_R: tl.constexpr, HAS_BIAS: tl.constexpr, DROPS: tl.constexpr,
    MIXES: tl.constexpr, EVEN_K: tl.constexpr, R: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Into c (m, n): p (m, k) · q (k, n) + u (m, r) · v (r, n) + bias (n).

    y: p, q, u, v = x, Wᵀ, S, Bᵀ; here (m, n, k) = (M, N, K). dX: dY, W, dS, A; (M, K, N).
    Q_BY_K: whether q's unit stride runs along k. The low-rank product is the epilogue; with
    dropout, whose mask is its alone, it comes first. MIXES: row i has v[ids[i]] of v (·, r, n);
    not with dropout.
    """
    row_tile, column_tile = _grouped(m, n, BM, BN, GROUP)
    rows = row_tile * BM + tl.arange(0, BM)
    columns = column_tile * BN + tl.arange(0, BN)
    near, ks = columns % n, tl.arange(0, BK)
    p_at = p + (rows % m).to(tl.int64)[:, None] * k + ks[None, :]
    if Q_BY_K:
        q_at = q + near.to(tl.int64)[None, :] * lead_q + ks[:, None]
    else:
        q_at = q + ks.to(tl.int64)[:, None] * lead_q + near[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    if DROPS:
        acc = _low_rank(acc, u, v, rows % m, near, r, r, lead_v, V_BY_R, R, PRECISION)
        acc = tl.where(_kept(rows, columns, seed, threshold), acc, 0.0)
    for start in range(0, k, BK):
        if EVEN_K:
            p_tile, q_tile = tl.load(p_at), tl.load(q_at)
        else:
            inside = ks < k - start
            p_tile = tl.load(p_at, mask=inside[None, :], other=0.0)
            q_tile = tl.load(q_at, mask=inside[:, None], other=0.0)
        acc = tl.dot(p_tile, q_tile, acc, input_precision=PRECISION)
        p_at += BK
        if Q_BY_K:
            q_at += BK
        else:
            q_at += BK * lead_q
    if MIXES:
        acc = _low_ranks(acc, u, v, ids, rows % m, near, n, r, lead_v, V_BY_R, R, PRECISION)
    elif not DROPS:
        acc = _low_rank(acc, u, v, rows % m, near, r, r, lead_v, V_BY_R, R, PRECISION)
    if HAS_BIAS:
        acc += tl.load(bias + near).to(tl.float32)[None, :]
    c_at = c + rows.to(tl.int64)[:, None] * n + columns[None, :]
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    tl.store(c_at, acc.to(c.dtype.element_ty), mask=inside)


@triton.jit
def _grouped(m, n, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr):
    """This program's tile: GROUP rows of tiles are walked together, so that q stays in L2."""
    tiles_m, tiles_n = tl.cdiv(m, BM), tl.cdiv(n, BN)
    at = tl.program_id(0)
    first = at // (GROUP * tiles_n) * GROUP
    height = min(tiles_m - first, GROUP)
    inner = at % (GROUP * tiles_n)
    return first + inner % height, inner // height


@triton.jit
def _low_rank(
    acc, u, v, rows, columns, r, own, lead_v,
    V_BY_R: tl.constexpr, R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum of acc and u (m, r) · v (r, n), of this tile's rows and columns.

    Of a row of u the first ``own`` numbers are read, (rows, 1) or one for all; the rest is zero.
    """
    ranks = tl.arange(0, R)
    u_at = u + rows.to(tl.int64)[:, None] * r + ranks[None, :]
    u_tile = tl.load(u_at, mask=ranks[None, :] < own, other=0.0)
    if V_BY_R:
        v_at = v + columns[None, :] * lead_v + ranks[:, None]
    else:
        v_at = v + ranks[:, None] * lead_v + columns[None, :]
    v_tile = tl.load(v_at, mask=(ranks < r)[:, None], other=0.0)
    return tl.dot(u_tile, v_tile, acc, input_precision=PRECISION)


@triton.jit
def _low_ranks(
    acc, u, v, ids, rows, columns, n, r, lead_v,
    V_BY_R: tl.constexpr, R: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The same with v[ids[i]] for row i.

    A product for each number from the least to the greatest of this tile: one, mostly, if rows are
    sorted.
    """
    mine = tl.load(ids + rows)
    least = tl.min(mine, 0)
    for step in tl.range(0, tl.max(mine, 0) - least + 1, num_stages=1):
        one = least + step
        own = tl.where(mine == one, r, 0)[:, None]
        v_one = v + one.to(tl.int64) * n * r
        acc = _low_rank(acc, u, v_one, rows, columns, r, own, lead_v, V_BY_R, R, PRECISION)
    return acc


@triton.jit
def grads_of_small(
    dy, b, s, ds, db, m, n, r, columns_each,
    R: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Parts of dS = dy (M, N) · b (N, r) and of dB = dyᵀ · s (M, r), reading dy once; small r.

    Program (i, j) has BM rows and ``columns_each`` columns, a multiple of BN. ds (programs j, M, r)
    and db (programs i, N, r), both float32, are to be summed over their programs.
    """
    i, j = tl.program_id(0), tl.program_id(1)
    rows = i * BM + tl.arange(0, BM)
    real, ranks = (rows < m)[:, None], tl.arange(0, R)
    ranked = (ranks < r)[None, :]
    small_at = rows.to(tl.int64)[:, None] * r + ranks[None, :]
    s_tile = tl.load(s + small_at, mask=real & ranked, other=0.0)
    acc = tl.zeros((BM, R), tl.float32)
    for start in range(j * columns_each, min((j + 1) * columns_each, n), BN):
        columns = start + tl.arange(0, BN)
        dy_tile = tl.load(
            dy + rows.to(tl.int64)[:, None] * n + columns[None, :],
            mask=real & (columns < n)[None, :], other=0.0,
        )  # fmt: skip
        inside = (columns < n)[:, None] & ranked
        wide_at = columns.to(tl.int64)[:, None] * r + ranks[None, :]
        b_tile = tl.load(b + wide_at, mask=inside, other=0.0)
        acc = tl.dot(dy_tile, b_tile, acc, input_precision=PRECISION)
        part = tl.dot(tl.trans(dy_tile), s_tile, input_precision=PRECISION)
        tl.store(db + i.to(tl.int64) * n * r + wide_at, part, mask=inside)
    tl.store(ds + j.to(tl.int64) * m * r + small_at, acc, mask=real & ranked)


@triton.jit
def grad_a(
    ds, x, da, m, k, r, threshold, seed, rows_each,
    DROPS: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Parts of dA (r, K) = ds (M, r)ᵀ · (x (M, K) ⊙ mask).

    Program (i, j) has BK columns and ``rows_each`` rows; da (programs j, r, K), float32, is to be
    summed over its programs.
    """
    i, j = tl.program_id(0), tl.program_id(1)
    columns = i * BK + tl.arange(0, BK)
    ranks = tl.arange(0, R)
    acc = tl.zeros((R, BK), tl.float32)
    for start in range(j * rows_each, min((j + 1) * rows_each, m), BM):
        rows = start + tl.arange(0, BM)
        real = rows < m
        x_tile = tl.load(
            x + rows.to(tl.int64)[:, None] * k + columns[None, :],
            mask=real[:, None] & (columns < k)[None, :], other=0.0,
        )  # fmt: skip
        if DROPS:
            x_tile = tl.where(_kept(rows, columns, seed, threshold), x_tile, 0.0)
        ds_tile = tl.load(
            ds + rows.to(tl.int64)[None, :] * r + ranks[:, None],
            mask=real[None, :] & (ranks < r)[:, None], other=0.0,
        )  # fmt: skip
        acc = tl.dot(ds_tile, x_tile, acc, input_precision=PRECISION)
    da_at = da + j.to(tl.int64) * r * k + ranks.to(tl.int64)[:, None] * k + columns[None, :]
    tl.store(da_at, acc, mask=(ranks < r)[:, None] & (columns < k)[None, :])
