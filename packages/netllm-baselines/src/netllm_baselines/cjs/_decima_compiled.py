"""Decima's network for one decision after the other, compiled.

It is one module, for numba's cache watches a function's own file only. All weights lie in one
vector; a row of `layout` says where a perceptron begins in it and how wide its layers are. Each
episode is computed by itself, so its result does not depend on the batch. `spare` is scratch:
two hidden layers, an output, inputs side by side, and what all executor counts share.
"""

from math import exp, log

import numpy as np
from jaxtyping import Bool, Float, Int
from netllm_sims.cjs.compiled_policy_tools import compiled, inner
from numpy import ndarray

from netllm_baselines.cjs._decima_features import PUBLISHED

PREPARE, MESSAGE, UPDATE, JOB, WHOLE, STAGE, EXECUTORS = range(7)
"""Rows of `layout`; its columns are the place in the vector, inputs, two hidden widths, outputs."""
WIDTH = 16
"""Of the embeddings of stages, jobs and the whole."""
JOB_FEATURES = 3
"""The first of a stage, which are the same for all of its job."""

Vector = Float[ndarray, "number"]
Rows = Float[ndarray, "row column"]
Whole = Int[ndarray, "number"]
Pairs = Int[ndarray, "pair 2"]

_ZERO, _SLOPE, _LIMIT = np.float32(0.0), np.float32(0.2), np.float32(7.90531110763549805)
_ODD = np.array([
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
    1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
], np.float32)  # fmt: skip
_EVEN = np.array(
    [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03],
    np.float32,
)


@inner
def bend(y: Vector, width: int) -> None:
    """Leaky ReLU, in place."""
    for o in range(width):
        y[o] = max(y[o], _SLOPE * y[o])


@inner
def squash(y: Vector, width: int) -> None:
    """Hyperbolic tangent, in place, within 3e-7: Eigen's rational function, which vectorises."""
    for o in range(width):
        v = min(max(y[o], -_LIMIT), _LIMIT)
        s = v * v
        odd = ((_ODD[0] * s + _ODD[1]) * s + _ODD[2]) * s + _ODD[3]
        odd = ((odd * s + _ODD[4]) * s + _ODD[5]) * s + _ODD[6]
        even = ((_EVEN[0] * s + _EVEN[1]) * s + _EVEN[2]) * s + _EVEN[3]
        y[o] = v * odd / even


@inner
def put(target: Vector, at: int, source: Vector) -> int:
    """Copy numbers to a place; where the next ones go."""
    for o in range(source.shape[0]):
        target[at + o] = source[o]
    return at + source.shape[0]


@inner
def dense(flat: Vector, at: int, x: Vector, inputs: int, y: Vector, outputs: int) -> int:
    """A linear layer into `y`; where the next one begins. Biases lie behind the weights."""
    bias = at + inputs * outputs
    for o in range(outputs):
        y[o] = flat[bias + o]
    for i in range(inputs):
        v = x[i]
        for o in range(outputs):
            y[o] += v * flat[at + i * outputs + o]
    return bias + outputs


@inner
def perceptron(flat: Vector, row: Whole, x: Vector, spare: Rows, y: Vector) -> None:
    """Two hidden layers with leaky ReLU."""
    at = dense(flat, row[0], x, row[1], spare[0], row[2])
    bend(spare[0], row[2])
    at = dense(flat, at, spare[0], row[2], spare[1], row[3])
    bend(spare[1], row[3])
    dense(flat, at, spare[1], row[3], y, row[4])


@inner
def score(flat: Vector, row: Whole, at: int, spare: Rows) -> float:
    """Rest of a scoring network, whose first layer is in `spare[0]`, its tanh still to come."""
    squash(spare[0], row[2])
    at = dense(flat, at, spare[0], row[2], spare[1], row[3])
    squash(spare[1], row[3])
    dense(flat, at, spare[1], row[3], spare[2], 1)
    return spare[2, 0]


@inner
def embed(
    flat: Vector, layout: Pairs, x: Rows, depth: Whole, edges: Pairs, first: int, marks: Pairs,
    spare: Rows, h: Float[ndarray, "4 stage 16"],
) -> None:  # fmt: skip
    """Embed the stages into `h[0]`, from the leaves up, one level of depth at a time.

    In the published network a level also holds the edges between its stages' children, so that
    a child with grandchildren is computed anew from some of these only; and where no stage has
    a child, the last layers are left out. Rows of `edges` count from `first`.
    """
    extended, deepest = x.shape[1] > PUBLISHED, 0
    for i in range(x.shape[0]):
        marks[0, i] = 0
        deepest = max(deepest, depth[i])
        perceptron(flat, layout[PREPARE], x[i], spare, h[1, i])
        put(h[0, i], 0, h[1, i])
    if deepest == 0 and not extended:
        return
    for e in range(edges.shape[0]):
        marks[0, edges[e, 0] - first] = 1
    for i in range(x.shape[0]):
        if marks[0, i] == 0:
            perceptron(flat, layout[UPDATE], h[1, i], spare, h[0, i])
    for above in range(deepest - 1, -1, -1):
        for i in range(x.shape[0]):
            marks[0, i] = depth[i] == above
        for e in range(edges.shape[0]):
            if not extended and depth[edges[e, 0] - first] == above:
                marks[0, edges[e, 1] - first] = 1
        send(flat, layout, extended, edges, first, marks, spare, h)


@inner
def send(
    flat: Vector, layout: Pairs, extended: bool, edges: Pairs, first: int, marks: Pairs,
    spare: Rows, h: Float[ndarray, "4 stage 16"],
) -> None:  # fmt: skip
    """Compute parents anew from messages along the edges within (extended: from) marked stages."""
    role = marks[1]  # bits: has sent its message, has got one
    role[:] = 0
    for e in range(edges.shape[0]):
        parent, child = edges[e, 0] - first, edges[e, 1] - first
        if marks[0, parent] == 1 and (extended or marks[0, child] == 1):
            if role[child] % 2 == 0:
                perceptron(flat, layout[MESSAGE], h[0, child], spare, h[2, child])
                role[child] += 1
            if role[parent] < 2:
                role[parent] += 2
                h[3, parent] = _ZERO
            for o in range(WIDTH):
                h[3, parent, o] += h[2, child, o]
    for i in range(role.shape[0]):
        if role[i] >= 2:
            perceptron(flat, layout[UPDATE], h[3, i], spare, h[0, i])
            for o in range(WIDTH):
                h[0, i, o] += h[1, i, o]


@inner
def summarise(
    flat: Vector, layout: Pairs, x: Rows, h: Rows, job: Whole, first: int, spare: Rows, sums: Rows
) -> None:  # fmt: skip
    """Embed the jobs, which count from `first`, and in the last row of `sums` the whole."""
    whole = sums.shape[0] - 1
    sums[:] = _ZERO
    for i in range(x.shape[0]):
        put(spare[3], put(spare[3], 0, x[i]), h[i])
        perceptron(flat, layout[JOB], spare[3], spare, spare[2])
        for o in range(WIDTH):
            sums[job[i] - first, o] += spare[2, o]
    for j in range(whole):
        perceptron(flat, layout[WHOLE], sums[j], spare, spare[2])
        for o in range(WIDTH):
            sums[whole, o] += spare[2, o]


@inner
def score_stage(
    flat: Vector, layout: Pairs, x: Vector, h: Vector, job: Vector, whole: Vector, spare: Rows
) -> float:  # fmt: skip
    """Score of a stage."""
    row, gather = layout[STAGE], spare[3]
    at = put(gather, put(gather, 0, x), h)
    put(gather, put(gather, at, job), whole)
    at = dense(flat, row[0], gather, row[1], spare[0], row[2])
    return score(flat, row, at, spare)


@inner
def score_stages(
    flat: Vector, layout: Pairs, x: Rows, h: Rows, schedulable: Bool[ndarray, "stage"],
    stage_job: Whole, first: int, end: int, first_job: int, jobs: Rows, spare: Rows,
    scores: Vector, allowed: Whole,
) -> int:  # fmt: skip
    """Score the schedulable stages from `first` to `end` and list them in `allowed`: how many."""
    count, whole = 0, jobs[jobs.shape[0] - 1]
    for s in range(first, end):
        if schedulable[s]:
            job = jobs[stage_job[s] - first_job]
            scores[count] = score_stage(flat, layout, x[s], h[s], job, whole, spare)
            allowed[count] = s
            count += 1
    return count


@inner
def score_executors(
    flat: Vector, layout: Pairs, x: Vector, h: Vector, job: Vector, whole: Vector,
    executors: int, options: int, spare: Rows, scores: Vector,
) -> None:  # fmt: skip
    """Score 1 to `options` executors, given the stage (in the published network, its job).

    The last inputs are executors - 1 / all executors and (extended only) executors / `options`.
    """
    row, gather, shared = layout[EXECUTORS], spare[3], spare[4]
    hidden, extended = row[2], x.shape[0] > PUBLISHED
    at = put(gather, put(gather, 0, x), h) if extended else put(gather, 0, x[:JOB_FEATURES])
    inputs = put(gather, put(gather, at, job), whole)
    last, bias = row[0] + inputs * hidden, row[0] + row[1] * hidden
    for o in range(hidden):
        shared[o] = flat[bias + o]
    for i in range(inputs):
        for o in range(hidden):
            shared[o] += gather[i] * flat[row[0] + i * hidden + o]
    for k in range(options):
        share, full = np.float32(k / executors), np.float32((k + 1) / options)
        for o in range(hidden):
            spare[0, o] = shared[o] + share * flat[last + o]
        if extended:
            for o in range(hidden):
                spare[0, o] += full * flat[last + hidden + o]
        scores[k] = score(flat, row, bias + hidden, spare)


@inner
def draw(scores: Vector, count: int, u: float, greedy: bool) -> tuple[int, float]:
    """Choice by softmax at the place `u` in [0, 1), or the best, and its log-probability.

    Sums are float32 as in the reference, whose `random.choices` adds float32 numbers.
    """
    best = 0
    for i in range(1, count):
        if scores[i] > scores[best]:
            best = i
    top, total, whole = scores[best], _ZERO, _ZERO
    for i in range(count):
        total += np.float32(exp(scores[i] - top))
    for i in range(count):
        whole += np.float32(exp(scores[i] - top)) / total
    place, below, chosen = np.float32(u) * whole, _ZERO, -1
    while chosen < count - 1 and below <= place:
        chosen += 1
        below += np.float32(exp(scores[chosen] - top)) / total
    if greedy:
        chosen = best
    return chosen, scores[chosen] - top - log(total)


@compiled
def act(
    network: tuple[Vector, Pairs],
    seen: tuple[Rows, Whole, Whole],
    demand: Vector,
    edges: Pairs,
    schedulable: Bool[ndarray, "stage"],
    stage_job: Whole,
    pointers: Int[ndarray, "3 batch_and_end"],
    executors: Whole,
    uniforms: Float[ndarray, "batch 2"],
    greedy: bool,
    scratch: tuple[Float[ndarray, "4 stage 16"], Rows, Rows, Vector, Pairs],
    actions: Pairs,
    log_probability: Float[ndarray, "batch 2"],
) -> None:
    """Choice and executors of each episode, and the log-probabilities of both.

    `seen` comes from `describe`: features, room and depth; `pointers` are those of jobs, stages
    and edges. The extended network gives no more executors than the stage's demand.
    """
    flat, layout = network
    x, room, depth = seen
    h, sums, spare, scores, marks = scratch
    extended = x.shape[1] > PUBLISHED
    for b in range(executors.shape[0]):
        j, i, e = pointers[0, b], pointers[1, b], pointers[2, b]
        end, last = pointers[1, b + 1], pointers[2, b + 1]
        own, each = h[:, i:end], sums[j + b : pointers[0, b + 1] + b + 1]
        part, place = (flat, layout, x[i:end]), marks[:, i:end]
        embed(*part, depth[i:end], edges[e:last], i, place, spare, own)
        summarise(*part, own[0], stage_job[i:end], j, spare, each)
        whole, allowed = each[each.shape[0] - 1], marks[0, i:]
        count = score_stages(
            flat, layout, x, h[0], schedulable, stage_job, i, end, j, each, spare, scores, allowed
        )
        actions[b, 0], log_probability[b, 0] = draw(scores, count, uniforms[b, 0], greedy)
        s = allowed[actions[b, 0]]
        options = min(room[stage_job[s]], int(demand[s])) if extended else room[stage_job[s]]
        job = each[stage_job[s] - j]
        score_executors(
            flat, layout, x[s], h[0, s], job, whole, executors[b], options, spare, scores
        )
        count, log_probability[b, 1] = draw(scores, options, uniforms[b, 1], greedy)
        actions[b, 1] = 1 + count
