import io
import tracemalloc

import numpy as np
import pytest
from netllm_sims.files.number_tables import Layout, read_table
from netllm_sims.files.reading import blocks

PAIR = Layout(width=2, columns=(0, 1), what="time and bandwidth")


def read(content, layout=PAIR, size=1 << 22):
    return read_table(blocks(io.BytesIO(content), "f", size=size), "f", layout)


@pytest.mark.parametrize("size", [4, 1000])
def test_numbers_come_with_their_lines(size):
    table = read(b"0 1\n# note\n\n  2\t3e-1 \n4 5", size=size)
    assert table.values.tolist() == [[0, 1], [2, 0.3], [4, 5]]
    assert table.lines.tolist() == [1, 4, 5]


def test_columns_are_chosen_in_any_order():
    text = Layout(width=3, columns=(2, 0), separator=",")
    for content in (b"1,a,2\n3,b,4\n", b'1,"a,x",2\n"3",b," 4"\n', b"1,#,2\n3,,4\n"):
        assert read(content, text).values.tolist() == [[2, 1], [4, 3]]
    numbers = Layout(width=2, columns=(1, 0))
    assert read(b"1 2\n3 4\n", numbers).values.tolist() == [[2, 1], [4, 3]]


def test_nothing_gives_an_empty_table():
    assert read(b"").values.shape == read(b"# a\n\n").values.shape == (0, 2)


@pytest.mark.parametrize("size", [5, 1000])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5 fast", "time and bandwidth must be numbers, got '5 fast'"),
        ("1_000 2", "must be numbers"),
        ("0x10 2", "must be numbers"),
        ("٣ 2", "must be numbers"),
        ("5", "must hold 2 columns, got '5'"),
        ("5 6 7", "must hold 2 columns"),
        ("5 # 6", "must hold 2 columns"),
        ("5 nan", "finite numbers"),
        ("-inf 1", "finite numbers"),
        ("1 1e308", r"at most 1e\+15 in magnitude, got '1 1e308'"),
        ("1 1e999", "finite numbers"),
        ("-2e15 0", "finite numbers"),
    ],
)
def test_a_bad_line_is_named(line, message, size):
    content = b"0 1\n1 1\n\n" + line.encode() + b"\n9 9\n"
    with pytest.raises(ValueError, match=message) as caught:
        read(content, size=size)
    assert str(caught.value).startswith("f:4: ")


def test_the_width_is_minded_where_a_column_is_text():
    layout = Layout(width=3, columns=(0,), separator=",")
    with pytest.raises(ValueError, match="f:2: the line must hold 3 columns"):
        read(b"1,a,b\n2,a\n", layout)
    with pytest.raises(ValueError, match=r"f:2: .*UTF-8"):
        read(b"1,a,b\n2,a,\xff\n", layout)


@pytest.mark.parametrize("line", ['3,"200', '3,200"', '3,""200"', '"3,200', '3,2"0"0', '"3,2"'])
def test_quotes_stand_around_a_number_and_are_closed(line):
    layout = Layout(width=2, columns=(0, 1), separator=",")
    with pytest.raises(ValueError, match=r"f:2: .*(quotes must be closed|numbers|2 columns)"):
        read(f"1,2\n{line}\n".encode(), layout)


def test_memory_follows_the_numbers_not_the_text():
    rows = 200_000
    content = b"".join(b"%d.25 %d.125000000000\n" % (i, i % 7) for i in range(rows))
    tracemalloc.start()
    try:
        table = read(content, size=1 << 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(table.values[:, 0], np.arange(rows) + 0.25)
    # twice the numbers of three columns while the blocks are joined, and little else
    assert peak < 2.5 * 3 * 8 * rows + 2_000_000
