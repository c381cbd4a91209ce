"""CPython's sets of small integers: the same members come out in the same order.

The reference serves idle executors in the order in which `set` yields them, which depends on the
history of the set's hash table. An integer is its own hash; a cell is found by up to ten steps to
the right, then a jump; of the removed cells on the way to
a free one, a new key takes the last.

Source: `Objects/setobject.c` of CPython (`set_add_entry`, `set_table_resize`, `set_insert_clean`).
"""

from jaxtyping import Int
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.state_arrays import FILL, MASK, USED

Table = Int[ndarray, "set cell"]
Heads = Int[ndarray, "set 4"]
Spare = Int[ndarray, "2 cell"]


@inner
def clear(table: Table, sets: Heads, k: int) -> None:
    """Make it a fresh, empty set."""
    sets[k, MASK], sets[k, FILL], sets[k, USED] = 7, 0, 0
    for i in range(8):
        table[k, i] = 0


@inner
def find(table: Table, k: int, mask: int, key: int) -> tuple[int, int]:
    """Cell of `key` or, where it is missing, the one never used that ends its path.

    With it comes the last removed cell before that, or -1.
    """
    perturb = key
    i = key & mask
    removed = -1
    while True:
        last = i + 9 if i + 9 <= mask else i
        for j in range(i, last + 1):
            if table[k, j] == 0 or table[k, j] == key + 1:
                return j, removed
            if table[k, j] == -1:
                removed = j
        perturb >>= 5
        i = (i * 5 + 1 + perturb) & mask


@inner
def add(table: Table, sets: Heads, k: int, key: int, spare: Spare) -> None:
    """Add a key that is not in the set."""
    cell, removed = find(table, k, sets[k, MASK], key)
    sets[k, USED] += 1
    if removed >= 0:
        table[k, removed] = key + 1
        return
    table[k, cell] = key + 1
    sets[k, FILL] += 1
    if sets[k, FILL] * 5 >= sets[k, MASK] * 3:
        rebuild(table, sets, k, spare)


@inner
def rebuild(table: Table, sets: Heads, k: int, spare: Spare) -> None:
    """Take the smallest table with more than four cells per member, without removed ones."""
    size = 8
    while size <= sets[k, USED] * 4:
        size *= 2
    old = sets[k, MASK] + 1
    for i in range(old):
        spare[0, i] = table[k, i]
    for i in range(size):
        table[k, i] = 0
    for i in range(old):
        if spare[0, i] > 0:
            cell, _ = find(table, k, size - 1, spare[0, i] - 1)
            table[k, cell] = spare[0, i]
    sets[k, MASK], sets[k, FILL] = size - 1, sets[k, USED]


@inner
def remove(table: Table, sets: Heads, k: int, key: int) -> None:
    """Remove a key that is in the set."""
    cell, _ = find(table, k, sets[k, MASK], key)
    table[k, cell] = -1
    sets[k, USED] -= 1
