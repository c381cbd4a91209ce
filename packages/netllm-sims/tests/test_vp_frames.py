import gc
import os
import shutil
import struct
import zlib
from dataclasses import replace

import imageio.v2 as imageio
import numpy as np
import pytest
from netllm_sims.vp import open_frames, setting
from netllm_sims.vp.frames import _readers
from PIL import Image

# imageio-ffmpeg leaves the pipes of its process to the garbage collector
leaky = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def config(tmp_path):
    """Own data of 24 s: two videos, one user each part."""
    times_s = np.arange(120) / 5
    rows = "\n".join(f"{t:.1f},{10 * t:.1f},0" for t in times_s)
    for part in ("train", "valid", "test"):
        (tmp_path / "mine" / part / f"v{part}").mkdir(parents=True)
        (tmp_path / "mine" / part / f"v{part}" / "u.csv").write_text(f"time,yaw,pitch\n{rows}\n")
    (tmp_path / "frames").mkdir()
    return setting("default", trajectories=tmp_path / "mine", frames=tmp_path / "frames")


def picture(number):
    image = np.zeros((4, 8, 3), np.uint8)
    image[0] = number
    return image


def save(folder, count, suffix="png", first=1):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(picture(number)).save(folder / f"{number + first:06d}.{suffix}")


def test_images_are_shown_when_their_time_has_come(config):
    save(config.frames / "vtest", 120)
    frames = config.frames_of("mine/vtest")
    assert (frames.rate_hz, frames.count, frames.seconds) == (5.0, 120, 24.0)
    assert frames.at(0.0).shape == (4, 8, 3)
    assert frames.at(0.0).dtype == np.uint8
    shown = [int(frames.at(time_s)[0, 0, 0]) for time_s in (0.0, 0.19, 0.2, 0.6, 23.9, 24.9)]
    assert shown == [0, 0, 1, 3, 119, 119]
    with pytest.raises(ValueError, match=r"vtest: `time_s` must lie between 0 and 24 s.*got 25.5"):
        frames.at(25.5)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        frames.at(-0.1)


def test_the_images_rate_is_a_field_and_their_format_free(config):
    save(config.frames / "mine" / "vtest", 48, "jpg", first=0)
    Image.new("L", (8, 4), 77).save(config.frames / "mine" / "vtest" / "000048.png")
    frames = replace(config, frames_hz=2.0).frames_of("mine/vtest")
    assert frames.at(23.9)[0, 0].tolist() == pytest.approx([47] * 3, abs=3)
    assert frames.at(24.0)[0, 0].tolist() == [77] * 3


def test_a_video_shorter_than_its_trajectory_is_an_error(config):
    save(config.frames / "vtest", 110)
    with pytest.raises(
        ValueError,
        match=r"vtest: the video must last .*got 110 frames at 5 Hz, 22 s.*u\.csv ends at 23.8 s",
    ):
        config.frames_of("mine/vtest")
    save(config.frames / "vtest", 115)
    assert config.frames_of("mine/vtest").count == 115  # 0.8 s missing


def test_a_frame_that_cannot_be_decoded_is_an_error_naming_it(config):
    save(config.frames / "vtest", 120)
    (config.frames / "vtest" / "000003.png").write_bytes(b"no picture")
    whole = (config.frames / "vtest" / "000004.png").read_bytes()
    (config.frames / "vtest" / "000004.png").write_bytes(whole[:45])
    frames = config.frames_of("mine/vtest")
    for time_s, name in ((0.4, "000003"), (0.6, "000004")):
        with pytest.raises(ValueError, match=rf"{name}\.png: the frame cannot be decoded"):
            frames.at(time_s)


def test_missing_and_misnamed_frames_are_errors(config):
    for video in ("mine/vtest", np.str_("mine/vtest")):  # arrays of names hold the latter
        with pytest.raises(FileNotFoundError, match=r"no frames of video 'mine/vtest': "):
            config.frames_of(video)
    save(config.frames / "vtest", 120)
    (config.frames / "vtest" / "000007.png").unlink()
    with pytest.raises(ValueError, match=r"000008\.png: .*one after another, got 000006\.png"):
        config.frames_of("mine/vtest")
    for number in range(1, 7):
        (config.frames / "vtest" / f"{number:06d}.png").unlink()
    with pytest.raises(ValueError, match=r"000008\.png: frames must be numbered from 0 or 1"):
        config.frames_of("mine/vtest")
    (config.frames / "vtest" / "cover.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cover\.png: a frame must be named by its number"):
        config.frames_of("mine/vtest")
    (config.frames / "vvalid").mkdir()
    with pytest.raises(ValueError, match=r"vvalid: must hold frames like 000001\.png"):
        config.frames_of("mine/vvalid")


def test_frames_of_own_data_need_no_other_parts(config):
    save(config.frames / "vtest", 120)
    for part in ("train", "valid"):
        shutil.rmtree(config.trajectories / part)
    assert config.frames_of("mine/vtest").count == 120


def test_turned_frames_show_the_front_where_it_was_turned_to(config):
    save(config.frames / "vtest", 120)
    frames = config.frames_of("mine/vtest")
    frame = frames.draw(5).copy()
    frame[1, 4] = 200  # 8 columns of 45°: yaw 22.5°
    turned = replace(frames, draw=lambda _: frame).turned(-90)
    assert turned.count == frames.count
    assert turned.draw(5)[1, 2].tolist() == [200] * 3
    assert frames.turned(360) is frames


def test_an_unknown_video_lists_the_nearest(config):
    with pytest.raises(ValueError, match=r"Unknown video 'mine/vtets'\. Did you mean mine/vtest"):
        config.frames_of("mine/vtets")
    assert replace(config, frames=None).frames_of("mine/vtest") is None


@leaky
def test_a_video_file_is_decoded_frame_by_frame(config):
    file = config.frames / "vtest.mp4"
    with imageio.get_writer(file, format="FFMPEG", fps=10, macro_block_size=16) as writer:
        for number in range(240):
            writer.append_data(np.full((32, 64, 3), number, np.uint8))
    frames = config.frames_of("mine/vtest")
    assert (frames.rate_hz, frames.count) == (10.0, 240)
    for time_s, shown in ((0.0, 0), (20.0, 200), (5.05, 50), (23.95, 239)):
        got = frames.at(time_s)
        assert got.shape == (32, 64, 3)
        assert got.mean() == pytest.approx(shown, abs=3)


@leaky
def test_of_many_video_files_few_are_open(tmp_path):
    for shade in (50, 100, 150):
        with imageio.get_writer(tmp_path / f"{shade}.mp4", format="FFMPEG", fps=10) as writer:
            for _ in range(20):
                writer.append_data(np.full((32, 64, 3), shade, np.uint8))
    films = {shade: open_frames(tmp_path, str(shade), rate_hz=5) for shade in (50, 100, 150)}
    for _ in range(2):
        for shade, frames in films.items():
            assert frames.draw(7).mean() == pytest.approx(shade, abs=3)
            assert len(_readers) <= 2
    del frames
    films.clear()
    assert not _readers


@leaky
def test_a_file_that_is_no_video_or_half_of_one_is_an_error_of_one_line(tmp_path):
    with imageio.get_writer(tmp_path / "v.mp4", format="FFMPEG", fps=10) as writer:
        for _ in range(20):
            writer.append_data(np.zeros((32, 64, 3), np.uint8))
    whole = (tmp_path / "v.mp4").read_bytes()
    for content in (b"no video", whole[: len(whole) // 2]):
        (tmp_path / "v.mp4").write_bytes(content)
        one_line = r"\A.*v\.mp4: the video cannot be opened: .*\Z"
        with pytest.raises(ValueError, match=one_line):
            open_frames(tmp_path, "v", rate_hz=5.0)
        gc.collect()


@pytest.mark.parametrize(
    ("name", "library"), [("v", "pillow"), ("w", "imageio and imageio-ffmpeg")]
)
def test_a_missing_library_is_an_error_that_tells_what_to_install(
    tmp_path, monkeypatch, name, library
):
    save(tmp_path / "v", 3)
    (tmp_path / "w.mp4").write_bytes(b"")
    # what Python does when a module is not installed
    for module in ("PIL", "imageio", "imageio.v2"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(
        ImportError,
        match=rf"needs {library}. In a clone: pip install './packages/netllm-sims\[video\]'",
    ):
        open_frames(tmp_path, name, rate_hz=5.0).at(0.0)


@pytest.mark.parametrize("side", [12_000, 30_000, 2**31 - 1])
def test_a_picture_larger_than_memory_is_refused_before_it_is_read(tmp_path, side):
    save(tmp_path / "v", 1)
    file = tmp_path / "v" / "000001.png"
    content = file.read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
    file.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(ValueError, match=r"000001\.png: the frame cannot be decoded"):
        open_frames(tmp_path, "v", rate_hz=1.0).at(0)


def test_a_pipe_is_no_frame(tmp_path):
    save(tmp_path / "v", 1)
    (tmp_path / "v" / "000001.png").unlink()
    os.mkfifo(tmp_path / "v" / "000001.png")
    with pytest.raises(ValueError, match=r"000001\.png: .*a named pipe"):
        open_frames(tmp_path, "v", rate_hz=1.0).at(0)
