"""A video that real players play, whose segments have exactly the sizes of a ladder's chunks."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netllm_sims.abr import Video

FRAMES_PER_S = 10
SIZE = 320, 180
"""Width and height of the picture, in pixels."""
CODEC = "avc1.42c00d"
_BOX_BYTES = 8
"""Length and name of a box of an MP4 file."""
_MOST_BYTES = 2**32
_LEVEL = '      <Representation id="{level}" bandwidth="{bits}" width="{width}" height="{height}"/>'
_MPD = """<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT{chunk_s:g}S"
     profiles="urn:mpeg:dash:profile:isoff-live:2011" mediaPresentationDuration="PT{duration_s:g}S">
  <Period>
    <AdaptationSet contentType="video" mimeType="video/mp4" codecs="{codec}" segmentAlignment="true"
                   startWithSAP="1">
      <SegmentTemplate timescale="1000" duration="{chunk_ms}" startNumber="1"
                       initialization="$RepresentationID$/init.mp4"
                       media="{base}$RepresentationID$/$Number$.m4s"/>
{levels}
    </AdaptationSet>
  </Period>
</MPD>
"""


@dataclass(frozen=True, eq=False)
class Presentation:
    """A video's manifests and segments, for DASH and for HLS.

    Every level shows the same small test picture; a box that players skip (`free`) fills a segment
    up to the size of its chunk, so what is downloaded is the ladder's to the byte.

    Args:
        video: ladder, chunks and their sizes.
        media: folder of the picture, as `picture` made it.

    Raises:
        ValueError: if a chunk is too small to hold the picture.
    """

    video: Video
    media: Path

    def __post_init__(self) -> None:
        for number, sizes in enumerate(self.video.sizes_bytes[: self.video.chunks], start=1):
            room, needed = int(sizes.min()), len(self._media[number]) + _BOX_BYTES
            if not needed <= room < _MOST_BYTES:
                raise ValueError(
                    f"Chunks of video {self.video.name!r} must have at least {needed} bytes and "
                    f"less than 4 GiB to be played, but chunk {number} has one of {room}."
                )

    @cached_property
    def _media(self) -> list[bytes]:
        """What comes before the first segment, and the segments."""
        names = ("init.mp4", *(f"{n}.m4s" for n in range(1, self.video.chunks + 1)))
        return [(self.media / name).read_bytes() for name in names]

    def init(self, level: int) -> bytes:
        """What a player reads before the first segment of a level; the same for all.

        Raises:
            KeyError: if there is no such level.
        """
        self._check_level(level)
        return self._media[0]

    def segment(self, level: int, number: int) -> bytes:
        """Segment `number`, from 1, of a level.

        Raises:
            KeyError: if there is none.
        """
        self._check_level(level)
        if not 1 <= number <= self.video.chunks:
            raise KeyError(f"segment {number}")
        media, size = self._media[number], round(self.video.sizes_bytes[number - 1, level])
        rest = size - len(media)
        return media + struct.pack(">I4s", rest, b"free") + bytes(rest - _BOX_BYTES)

    def mpd(self, *, base: str = "") -> str:
        """The manifest for DASH.

        Args:
            base: what comes before the paths of segments.
        """
        width, height = SIZE
        levels = (
            _LEVEL.format(level=level, bits=round(rate * 1e3), width=width, height=height)
            for level, rate in enumerate(self.video.rates_kbps)
        )
        return _MPD.format(
            chunk_s=self.video.chunk_s,
            chunk_ms=round(self.video.chunk_s * 1e3),
            duration_s=self.video.chunk_s * self.video.chunks,
            codec=CODEC,
            base=base,
            levels="\n".join(levels),
        )

    def m3u8(self, level: int | None = None, *, base: str = "") -> str:
        """The playlist for HLS: of all levels, or of the segments of one.

        Args:
            level: whose segments.
            base: what comes before the paths of segments.

        Raises:
            KeyError: if there is no such level.
        """
        if level is None:
            lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
            for number, rate in enumerate(self.video.rates_kbps):
                told = f"BANDWIDTH={round(rate * 1e3)},RESOLUTION={SIZE[0]}x{SIZE[1]}"
                lines += [f'#EXT-X-STREAM-INF:{told},CODECS="{CODEC}"', f"{number}/list.m3u8"]
            return "\n".join(lines) + "\n"
        self._check_level(level)
        chunk_s = self.video.chunk_s
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{-(-chunk_s // 1):.0f}"]
        lines += ["#EXT-X-PLAYLIST-TYPE:VOD", '#EXT-X-MAP:URI="init.mp4"']
        for number in range(1, self.video.chunks + 1):
            lines += [f"#EXTINF:{chunk_s:g},", f"{base and f'{base}{level}/'}{number}.m4s"]
        return "\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n"

    def _check_level(self, level: int) -> None:
        if not 0 <= level < self.video.levels:
            raise KeyError(f"level {level}")


def presentation(video: Video) -> Presentation:
    """The presentation of a video; its picture is encoded at the first call, and kept.

    Raises:
        ValueError: if a chunk is no whole number of frames, or too small for the picture.
        FileNotFoundError: if ffmpeg is needed and not installed.
    """
    return Presentation(video, picture(video.chunk_s, video.chunks))


def picture(chunk_s: float, chunks: int, *, folder: Path | None = None) -> Path:
    """The folder of a test picture in so many segments: `init.mp4`, `1.m4s` and so on.

    Args:
        chunk_s: length of a segment.
        chunks: number of segments.
        folder: where pictures are kept; `real` in the cache folder if None.

    Raises:
        ValueError: if a segment is no whole number of frames.
        FileNotFoundError: if it is not there yet and ffmpeg is not installed.
    """
    from netllm_adapt.backbone import cache_folder

    frames = round(chunk_s * FRAMES_PER_S)
    if frames < 1 or abs(frames / FRAMES_PER_S - chunk_s) > 1e-9:
        raise ValueError(
            f"`chunk_s` must be a multiple of {1 / FRAMES_PER_S:g} s to be played, got {chunk_s}."
        )
    place = (folder or cache_folder() / "real") / f"picture-{chunk_s:g}s-{chunks}"
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _encode(made, frames, chunk_s * chunks)
        try:
            made.rename(place)
        except OSError:  # another process was faster
            if not place.exists():
                raise
    return place


def _encode(folder: Path, frames: int, duration_s: float) -> None:
    """Write the segments of a moving test picture, each of so many frames."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise FileNotFoundError(
            "Videos for real players are made by ffmpeg, which is not installed: "
            "apt-get install ffmpeg (or your system's way)."
        )
    picture = f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate={FRAMES_PER_S}:duration={duration_s:g}"
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-level", "1.3"]
    keys = ["-g", f"{frames}", "-keyint_min", f"{frames}", "-sc_threshold", "0"]
    rate = ["-b:v", "60k", "-maxrate", "60k", "-bufsize", "60k", "-pix_fmt", "yuv420p"]
    names = ["-init_seg_name", "init.mp4", "-media_seg_name", "$Number$.m4s"]
    length = ["-seg_duration", f"{frames / FRAMES_PER_S:g}", "-use_timeline", "0"]
    command = [program, "-v", "error", "-nostdin", "-f", "lavfi", "-i", picture]
    command += [*encoder, *keys, *rate, "-f", "dash", *length, *names, "manifest.mpd"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ffmpeg could not make the picture: {done.stderr.strip()[-500:]}")
