import os
import re

import numpy as np
import pytest
from netllm_sims.abr import LADDER_KBPS, Video, load_video


def write(folder, columns):
    for level, sizes in enumerate(columns):
        (folder / f"video_size_{level}").write_text("".join(f"{size}\n" for size in sizes))
    return folder


def test_a_folder_is_a_table_of_chunk_and_level(tmp_path):
    video = load_video(write(tmp_path, [[1, 2, 3], [4, 5, 6]]), rates_kbps=(300, 750))
    assert video.sizes_bytes.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert (video.name, video.levels, video.chunks) == (tmp_path.name, 2, 3)


def test_48_chunks_are_played_of_a_longer_table(tmp_path):
    folder = write(tmp_path, [range(1, 50)] * 6)
    assert load_video(folder).chunks == 48
    assert load_video(folder, chunks=20).chunks == 20
    assert load_video(folder).rates_kbps == LADDER_KBPS


def test_files_of_different_length_are_named(tmp_path):
    write(tmp_path, [[1, 2, 3], [4, 5]])
    with pytest.raises(ValueError, match="got 2 lines here and 3") as caught:
        load_video(tmp_path, rates_kbps=(300, 750))
    assert str(caught.value).startswith(f"{tmp_path / 'video_size_1'}:3: ")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("big", "sizes of chunks must be numbers, got 'big'"),
        ("0", r"number of bytes > 0 and at most 1e\+09, got 0"),
        ("-4", "number of bytes > 0 .*got -4"),
        ("1e9999", "finite"),
        ("nan", "finite"),
        ("inf", "finite"),
        ("1e300", r"at most 1e\+15"),
        ("1e10", "number of bytes > 0 .*got 1e+"),
        ("1 2", r"must hold 1 columns, got '1 2'. Write one number of bytes > 0"),
    ],
)
def test_a_bad_size_is_named_with_its_line(tmp_path, wrong, message):
    write(tmp_path, [[1, 2], [4, wrong]])
    with pytest.raises(ValueError, match=message) as caught:
        load_video(tmp_path, rates_kbps=(300, 750))
    assert str(caught.value).startswith(f"{tmp_path / 'video_size_1'}:2: ")


def test_an_empty_size_file_is_named(tmp_path):
    write(tmp_path, [[]])
    with pytest.raises(ValueError, match=r"video_size_0:1: .*empty file"):
        load_video(tmp_path)


def test_a_binary_size_file_is_named(tmp_path):
    write(tmp_path, [[1, 2]])
    (tmp_path / "video_size_1").write_bytes(b"\x8b\x08\xff\xfe")
    with pytest.raises(ValueError, match=r"video_size_1:1: .*must be a text file"):
        load_video(tmp_path)


def ladder(folder, factors, rates=LADDER_KBPS):
    """Ten chunks of 4 s per level, of `factors` times the bytes of its rate."""
    return write(folder, [[rate * 500 * f] * 10 for rate, f in zip(rates, factors, strict=True)])


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (8, "have 8 times the bytes of its rates, expected 0.56 to 1.8 times. Are the sizes bits?"),
        (1e-3, "0.001 times .*Are the sizes kilobytes"),
        (8e-3, "0.008 times .*Are the sizes kilobits"),
        (0.5, "0.5 times the bytes .*`chunk_s` a chunk's length"),
    ],
)
def test_sizes_in_other_units_are_told(tmp_path, caplog, factor, message):
    load_video(ladder(tmp_path, [factor] * 6))
    (record,) = caplog.records
    assert re.search(message, record.getMessage())
    assert record.getMessage().startswith(f"{tmp_path}: its chunks of 4 s")


def test_a_ladder_that_does_not_fit_is_told(tmp_path, caplog):
    rates = (300, 750, 1200, 1850, 2850, 6000)
    load_video(ladder(tmp_path, [1] * 6, rates), rates_kbps=(300, 750, 1200, 1850, 2850, 15_000))
    (record,) = caplog.records
    assert (
        "level 5 has 6,000 kbit/s in the mean, expected about its rate of 15,000" in record.message
    )
    assert "The files hold 300, 750, 1,200, 1,850, 2,850, 6,000 kbit/s" in record.message


def test_levels_that_do_not_rise_are_told(tmp_path, caplog):
    load_video(ladder(tmp_path, [1, 0.6, 1], (300, 450, 900)), rates_kbps=(300, 450, 900))
    (record,) = caplog.records
    assert "level 1 has 270 kbit/s in the mean" in record.message


def test_published_videos_raise_no_doubt(real_data, caplog):
    for name in ("video1", "video2"):
        load_video(real_data / "abr" / "videos" / name)
    assert not caplog.records


def test_a_pipe_is_no_size_file(tmp_path):
    write(tmp_path, [[1, 2]])
    os.mkfifo(tmp_path / "video_size_1")
    with pytest.raises(ValueError, match="video_size_1: must be a regular file, got a named pipe"):
        load_video(tmp_path, rates_kbps=(300, 750))


def test_a_mark_of_byte_order_and_leading_zeros_are_of_no_matter(tmp_path):
    (tmp_path / "video_size_00").write_text("1\n2\n", encoding="utf-8-sig")
    (tmp_path / "video_size_01").write_text("3\n4\n")
    video = load_video(tmp_path, rates_kbps=(300, 750))
    assert video.sizes_bytes.tolist() == [[1, 3], [2, 4]]
    (tmp_path / "video_size_1").write_text("5\n6\n")
    with pytest.raises(FileNotFoundError, match=r"got numbers \[0, 1, 1\]"):
        load_video(tmp_path)


def test_the_ladder_must_fit_the_files(tmp_path):
    write(tmp_path, [[1, 2], [4, 5]])
    with pytest.raises(ValueError, match=r"2 files for the rates .*Set `rates_kbps`"):
        load_video(tmp_path)


def test_the_numbers_of_the_files_must_have_no_gap(tmp_path):
    write(tmp_path, [[1, 2], [4, 5], [6, 7]])
    (tmp_path / "video_size_1").unlink()
    with pytest.raises(FileNotFoundError, match=r"without a gap, got numbers \[0, 2\]"):
        load_video(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_video(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates_kbps": (750.0, 300.0)}, "must be positive and rise"),
        ({"rates_kbps": (0.0, 300.0)}, "must be positive and rise"),
        ({"rates_kbps": ()}, "must be positive and rise"),
        ({"rates_kbps": (300.0, float("nan"))}, "must be positive and rise"),
        ({"rates_kbps": (1.0, 2.0, 3.0)}, "one column for each of the 3 rates"),
        ({"sizes_bytes": np.zeros((3, 2))}, "> 0 bytes"),
        ({"sizes_bytes": np.full((3, 2), 1e300)}, r"at most 1e\+09, got 1e\+300"),
        ({"chunk_s": 1e300}, "`chunk_s` must be > 0 s and at most 86400 s"),
        ({"chunk_s": 0.0}, "`chunk_s` must be > 0 s"),
        ({"chunks": 4}, "between 2 and the 3 rows"),
        ({"chunks": 1}, "between 2 and the 3 rows"),
    ],
)
def test_a_video_checks_its_table(changes, message):
    good = {"name": "v", "rates_kbps": (300.0, 750.0), "sizes_bytes": np.ones((3, 2)), "chunks": 3}
    assert Video(**good).levels == 2
    with pytest.raises(ValueError, match=message):
        Video(**(good | changes))
