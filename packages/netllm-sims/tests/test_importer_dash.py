import pytest
from netllm_sims.abr import importers
from netllm_sims.abr.importers import dash

HEAD = '<MPD type="static" mediaPresentationDuration="PT1M0.5S"><Period><AdaptationSet '
HEAD += 'contentType="video">'
TAIL = "</AdaptationSet></Period></MPD>"
ONE = '<Representation bandwidth="{}"><SegmentList duration="{}">{}</SegmentList></Representation>'
URLS = '<SegmentURL mediaRange="0-99"/>' * 2


def manifest(folder, inner, head=HEAD, tail=TAIL):
    file = folder / "manifest.mpd"
    file.write_text(head + inner + tail)
    return file


def segments(folder, names, size=1000):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(bytes(size + number))


def test_a_template_names_the_files_of_segments(tmp_path):
    # 60.5 s in segments of 20 s: the fourth lasts 0.5 s and is left out
    inner = '<SegmentTemplate media="$RepresentationID$/$Bandwidth$-$Number%03d$$$.m4s" '
    inner += 'duration="60" timescale="3" startNumber="7"/>'
    inner += '<BaseURL>media/</BaseURL><Representation id="low" bandwidth="3000"/>'
    inner += '<Representation id="high" bandwidth="9500"/>'
    for name in ("low/3000", "high/9500"):
        segments(tmp_path, [f"media/{name}-{n:03d}$.m4s" for n in (7, 8, 9, 10)])
    video = dash.video(manifest(tmp_path, inner))
    assert video.rates_kbps == (3, 9.5)
    assert (video.chunk_s, video.chunks, video.name) == (20, 3, "manifest")
    assert video.sizes_bytes.tolist() == [[1000, 1000], [1001, 1001], [1002, 1002]]


def test_a_timeline_says_when_segments_start(tmp_path):
    inner = '<SegmentTemplate media="$Time$.m4s" timescale="10"><SegmentTimeline>'
    inner += '<S t="5" d="40" r="1"/><S d="42"/></SegmentTimeline></SegmentTemplate>'
    inner += '<Representation id="a" bandwidth="2000"/>'
    segments(tmp_path, ["5.m4s", "45.m4s", "85.m4s"])
    video = dash.video(manifest(tmp_path, inner))
    assert video.sizes_bytes[:, 0].tolist() == [1000, 1001, 1002]
    assert video.chunk_s == pytest.approx(12.2 / 3, abs=1e-6)


def test_a_timeline_may_repeat_to_the_end(tmp_path):
    inner = '<SegmentTemplate media="$Number$.m4s"><SegmentTimeline><S d="30" r="-1"/>'
    inner += '</SegmentTimeline></SegmentTemplate><Representation bandwidth="2000"/>'
    segments(tmp_path, ["1.m4s", "2.m4s", "3.m4s"])
    # of 60.5 s: three entries of 30 s
    assert dash.video(manifest(tmp_path, inner)).chunks == 3


def test_a_list_names_files_too(tmp_path):
    inner = '<Representation bandwidth="2000"><SegmentList duration="30">'
    inner += '<SegmentURL media="a.m4s"/><SegmentURL media="b.m4s"/></SegmentList></Representation>'
    segments(tmp_path, ["a.m4s", "b.m4s"])
    video = dash.video(manifest(tmp_path, inner))
    assert video.sizes_bytes[:, 0].tolist() == [1000, 1001]


SET = '</AdaptationSet><AdaptationSet mimeType="video/mp4">'


def test_ffmpeg_writes_a_set_for_each_representation(tmp_path):
    inner = ONE.format(2000, 2, URLS) + SET + ONE.format(1000, 2, URLS)
    assert dash.video(manifest(tmp_path, inner)).rates_kbps == (1, 2)


def test_sets_of_several_codecs_are_refused(tmp_path):
    inner = ONE.format(2000, 2, URLS) + SET + ONE.format(1000, 2, URLS) + ONE.format(3000, 2, URLS)
    with pytest.raises(ValueError, match=r"one AdaptationSet of video, .*got 2 \(lines 1, 1\)"):
        dash.video(manifest(tmp_path, inner))


def test_one_rate_is_nothing_to_choose_from(tmp_path):
    file = manifest(tmp_path, ONE.format(2000, 2, URLS))
    with pytest.raises(ValueError, match=r"manifest.mpd: .*at least two rates .*one of 2 kbit/s"):
        importers.run("dash", [file], tmp_path / "out")


BOMB = '<!DOCTYPE MPD [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("head", "inner", "message"),
    [
        (BOMB + HEAD, ONE.format(1, 2, URLS), ":1: a document type .* is not read"),
        ('<!DOCTYPE MPD SYSTEM "file:///etc/passwd">' + HEAD, "", ":1: a document type"),
        (HEAD, "<a>" * 100, ":1: at most 50 elements"),
        (HEAD, "<a>", ":1: must be XML: mismatched tag"),
        ('<?xml version="1.0" encoding="x-y"?>' + HEAD, "", ":1: must be XML"),
        (HEAD.replace("static", "dynamic"), "", ":1: the manifest must be static"),
        (HEAD.replace("video", "audio"), "", "AdaptationSet of video"),
        (HEAD.replace("PT1M0.5S", "soon"), "", "a duration must be like PT1H2M3.5S, got 'soon'"),
        (HEAD, "", "must have a Representation, got none"),
        (HEAD, '<Representation bandwidth="1"><SegmentBase/></Representation>', "SegmentBase the"),
        (HEAD, ONE.format("fast", 2, URLS), "`bandwidth` must be bit/s > 0, got 'fast'"),
        (HEAD, ONE.format(1, 2, ""), "must have a SegmentURL, got none"),
        (HEAD, ONE.format(1, "x", URLS), "`duration` must be a whole number"),
        (HEAD, ONE.format(1, 0, URLS), "must have a `duration` > 0"),
        (HEAD, ONE.format(1, 2, '<SegmentURL mediaRange="9-1"/>' * 2), "first and the last byte"),
        (HEAD, ONE.format(1, 2, URLS) * 2, "must be positive and rise"),
        (
            HEAD,
            ONE.format(1, 2, URLS) + "\n" + ONE.format(2, 2, URLS * 2),
            ":2: all .*as many segments, got 4 here and 2 in .*:1",
        ),
        (HEAD, ONE.format(1, 2, '<SegmentURL media="/etc/passwd"/>'), "beside the manifest"),
        (HEAD, ONE.format(1, 2, '<SegmentURL media="../x"/>'), "beside the manifest"),
        (HEAD, ONE.format(1, 2, '<SegmentURL media="http://a/x"/>'), "beside the manifest"),
        (
            HEAD,
            '<SegmentTemplate media="$Number$" duration="1" timescale="999999999"/>'
            '<Representation bandwidth="1"/>',
            "must be 1 to 100,000 segments, got more",
        ),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(tmp_path, head, inner, message):
    file = manifest(tmp_path, inner, head)
    with pytest.raises(ValueError, match=message) as caught:
        dash.video(file)
    assert str(caught.value).startswith(f"{file}:")


def test_a_segment_that_is_not_there_is_named(tmp_path):
    inner = ONE.format(1, 2, '<SegmentURL media="a.m4s"/>')
    with pytest.raises(FileNotFoundError, match=r"manifest.mpd:1: the segment .*a.m4s is not"):
        dash.video(manifest(tmp_path, inner))


def test_segments_of_different_lengths_are_refused(tmp_path):
    inner = '<Representation bandwidth="1"><SegmentList timescale="10"><SegmentTimeline>'
    inner += f'<S d="20"/><S d="40"/></SegmentTimeline>{URLS}</SegmentList></Representation>'
    with pytest.raises(ValueError, match="equally long within 10 %"):
        dash.video(manifest(tmp_path, inner))
