"""CPython's sets of small integers: the same members come out in the same order.

The reference serves idle executors in the order in which `set` yields them, which depends on the
history of the set's hash table. An integer is its own hash; a cell is found by up to ten steps to
the right, then a jump; of the removed cells on the way to
a free one, a new key takes the last.

Source: `Objects/setobject.c` of CPython (`set_add_entry`, `set_table_resize`, `set_insert_clean`).
"""

from jaxtyping import Int
from netllm_sims.cjs._jit import inner
from netllm_sims.cjs.layout import FILL, MASK, USED
from numpy import ndarray

Cells = Int[ndarray, "cell"]
Head = Int[ndarray, "4"]


@inner
def clear(cells: Cells, head: Head) -> None:
    """Make it a fresh, empty set."""
    head[MASK], head[FILL], head[USED] = 7, 0, 0
    for i in range(8):
        cells[i] = 0


@inner
def find(cells: Cells, mask: int, key: int) -> tuple[int, int]:
    """Cell of `key` or, where it is missing, the one never used that ends its path.

    With it comes the last removed cell before that, or -1.
    """
    perturb = key
    i = key & mask
    removed = -1
    while True:
        last = i + 9 if i + 9 <= mask else i
        for j in range(i, last + 1):
            if cells[j] == 0 or cells[j] == key + 1:
                return j, removed
            if cells[j] == -1:
                removed = j
        perturb >>= 5
        i = (i * 5 + 1 + perturb) & mask


@inner
def add(cells: Cells, head: Head, key: int, spare: Cells) -> None:
    """Add a key that is not in the set."""
    cell, removed = find(cells, head[MASK], key)
    head[USED] += 1
    if removed >= 0:
        cells[removed] = key + 1
        return
    cells[cell] = key + 1
    head[FILL] += 1
    if head[FILL] * 5 >= head[MASK] * 3:
        rebuild(cells, head, spare)


@inner
def rebuild(cells: Cells, head: Head, spare: Cells) -> None:
    """Take the smallest table with more than four cells per member, without removed ones."""
    size = 8
    while size <= head[USED] * 4:
        size *= 2
    old = head[MASK] + 1
    for i in range(old):
        spare[i] = cells[i]
    for i in range(size):
        cells[i] = 0
    for i in range(old):
        if spare[i] > 0:
            cell, _ = find(cells, size - 1, spare[i] - 1)
            cells[cell] = spare[i]
    head[MASK], head[FILL] = size - 1, head[USED]


@inner
def remove(cells: Cells, head: Head, key: int) -> None:
    """Remove a key that is in the set."""
    cell, _ = find(cells, head[MASK], key)
    cells[cell] = -1
    head[USED] -= 1
