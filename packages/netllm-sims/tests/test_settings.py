import hashlib
from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.abr import load_video, rollout, setting, settings

REAL = ["many-starts", "paper-split", "unseen-video", "unseen-bandwidth", "unseen-both"]


@pytest.fixture
def own_traces(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "b").write_text("0 1\n9 2\n")
    (folder / "a").write_text("0 3\n8 4\n")
    return folder


@pytest.mark.usefixtures("no_data")
def test_default_without_data_is_synthetic_and_says_so():
    config = setting("default")
    assert config.synthetic
    assert config.data is None
    one, other = config.sessions("test"), setting("synthetic").sessions("test")
    assert [x.trace.digest for x in one] == [x.trace.digest for x in other]


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("name", REAL)
def test_real_settings_without_data_tell_where_to_name_it(name):
    with pytest.raises(FileNotFoundError, match="--data DIR or NETLLM_DATA"):
        setting(name)


def test_a_wrong_data_folder_is_an_error_not_a_fallback(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"must hold abr/traces .*--data"):
        setting("default", data=tmp_path)
    monkeypatch.setenv("NETLLM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere: .*NETLLM_DATA"):
        setting("default")
    assert setting("synthetic").synthetic


def test_unknown_names_list_the_nearest():
    with pytest.raises(ValueError, match=r"'unseen-vidio'. Did you mean unseen-video"):
        setting("unseen-vidio")
    with pytest.raises(ValueError, match=r"Unknown field 'latency'. Did you mean latency_s"):
        setting("synthetic", latency=1)
    with pytest.raises(ValueError, match="Unknown field 'synthetic'"):
        setting("default", synthetic=True)


def test_every_setting_has_one_line():
    assert set(settings()) == {"default", "3g", "4g-5g", "live", "synthetic", *REAL}
    assert all(line and "\n" not in line for line in settings().values())


def test_any_number_can_be_overridden_also_by_text():
    config = setting("synthetic", latency_s="0.25", rtt_s=0.1, rebuffering=5, buffer_cap_s=30)
    assert (config.latency_s, config.rtt_s, config.buffer_cap_s) == (0.25, 0.1, 30)
    assert config.qoe.rebuffering == 5
    with pytest.raises(ValueError, match="`latency_s` must be a number, got 'soon'"):
        setting("synthetic", latency_s="soon")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_s", -1.0),
        ("rtt_s", float("nan")),
        ("latency_s", 1e300),
        ("rtt_s", 1e300),
        ("drain_s", 0.0),
        ("drain_s", 1e-20),
        ("chunk_s", 1e300),
        ("buffer_cap_s", 0.1),
        ("packet_share", 0.0),
        ("packet_share", 1e-300),
        ("packet_share", 1.5),
        ("delay_noise", 1.0),
        ("rebuffering", -1.0),
    ],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must"):
        setting("synthetic", **{field: value})


def test_ladder_chunk_length_and_count_make_another_synthetic_video():
    config = setting("synthetic", rates_kbps="500,1500", chunk_s=2, chunks="10")
    assert config.rates_kbps == (500, 1500)
    assert (config.chunk_s, config.chunks) == (2, 10)
    assert config.video.sizes_bytes[:, 1].mean() == pytest.approx(1500 * 2 * 125, rel=0.1)
    assert replace(config, latency_s=1.0).rates_kbps == (500, 1500)
    with pytest.raises(ValueError, match="whole number"):
        setting("synthetic", chunks=9.5)
    with pytest.raises(ValueError, match="at most 1,000,000, got 1000000000"):
        setting("synthetic", chunks=10**9)


def test_an_own_video_is_a_folder_or_an_object(tmp_path):
    for level in range(2):
        (tmp_path / f"video_size_{level}").write_text("1000\n" * 30)
    config = setting("synthetic", video=tmp_path, rates_kbps=[300, 900], chunks=5)
    assert config.video.sizes_bytes.shape == (30, 2)
    assert config.chunks == 5
    video = load_video(tmp_path, rates_kbps=(300, 900))
    assert setting("synthetic", video=video, chunk_s=1).chunk_s == 1
    with pytest.raises(FileNotFoundError, match="no such folder of chunk sizes"):
        setting("synthetic", video="video9")


@pytest.mark.usefixtures("no_data")
def test_own_traces_need_an_own_video_to_be_real(own_traces, tmp_path):
    config = setting("default", traces=str(own_traces))
    assert config.synthetic  # its video is generated
    assert [(x.id, x.start_s) for x in config.sessions("test")] == [("a", 0), ("b", 0)]
    for level in range(6):
        (tmp_path / f"video_size_{level}").write_text("1000\n" * 30)
    assert not setting("default", traces=own_traces, video=tmp_path).synthetic


def test_subfolders_of_own_traces_are_parts(own_traces):
    (own_traces / "test").mkdir()
    for name in "ab":
        (own_traces / name).rename(own_traces / "test" / name)
    config = setting("synthetic", traces=own_traces)
    assert [one.id for one in config.sessions("test")] == ["a", "b"]
    with pytest.raises(ValueError, match=r"train: there is no such part"):
        config.sessions("train")
    with pytest.raises(FileNotFoundError, match="no such folder of traces"):
        setting("synthetic", traces=own_traces / "nowhere")


def test_drawn_sessions_follow_their_seed():
    config = setting("synthetic")

    def drawn(count, seed):
        sessions = config.sessions("train", episodes=count, seed=seed)
        return [(one.id, one.trace.id, one.start_s) for one in sessions]

    first, other = drawn(200, 4), drawn(200, 5)
    assert drawn(200, 4) == first
    assert drawn(50, 4) == first[:50]
    assert len({id for id, _, _ in first + other}) == 400
    assert len({trace for _, trace, _ in first}) > 100
    assert len({start_s for _, _, start_s in first}) == 200


def test_test_sessions_are_fixed_and_their_number_only_cuts():
    config = setting("synthetic")
    fixed = [one.id for one in config.sessions("test")]
    assert [one.id for one in config.sessions("test", episodes=7, seed=3)] == fixed[:7]
    with pytest.raises(ValueError, match="at most 100, the size of the test part, got 101"):
        config.sessions("test", episodes=101)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        config.sessions("train", episodes=0)
    with pytest.raises(ValueError, match="train, valid, test, got 'tests'"):
        config.sessions("tests")


def test_the_synthetic_parts_share_no_trace():
    parts = [setting("synthetic").sessions(part) for part in ("train", "valid", "test")]
    digests = [one.trace.digest for part in parts for one in part]
    assert len(set(digests)) == len(digests) == 460


def test_the_default_parts_share_no_file(real_data):
    config = setting("default", data=real_data)
    assert not config.synthetic
    folder = real_data / "abr" / "traces"
    hashes = {}
    for part, source in (("train", "fcc-train"), ("valid", "fcc-train"), ("test", "fcc-test")):
        files = [folder / source / one.id for one in config.sessions(part)]
        hashes[part] = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        assert len(hashes[part]) == len(files)
    assert not hashes["train"] & hashes["valid"]
    assert not (hashes["train"] | hashes["valid"]) & hashes["test"]
    # ORACLES.md: 193 of fcc-train are not in fcc-test; a fifth of them validates
    assert (len(hashes["train"]), len(hashes["valid"]), len(hashes["test"])) == (155, 38, 100)


def test_many_starts_are_1600_sessions_and_471_play_nothing_that_was_learned_from(real_data):
    config, usual = (setting(name, data=real_data) for name in ("many-starts", "default"))
    tests = config.sessions("test")
    assert len(tests) == 1600
    assert len({one.id for one in tests}) == 1600
    assert sum("fresh" in one.tags for one in tests) == 471  # by an independent count of points
    first = [one.trace.digest for one in tests[:100]]
    assert first == [one.trace.digest for one in usual.sessions("test")]
    assert sorted({one.start_s for one in tests}) == [20.0 * number for number in range(16)]
    for part in ("train", "valid"):
        ours = [one.trace.digest for one in config.sessions(part)]
        assert ours == [one.trace.digest for one in usual.sessions(part)]


def test_58_test_sessions_are_clean_and_19_of_them_share_no_stretch_with_training(real_data):
    config = setting("default", data=real_data)
    tests = config.sessions("test")
    assert len(config.clean_ids()) == 58  # ORACLES.md
    disjoint = [one for one in tests if "disjoint" in one.tags]
    assert len(disjoint) == 19
    assert all("clean" in one.tags for one in disjoint)
    heard = " ".join(
        " ".join(f"{value}" for value in one.trace.bandwidth_mbps)
        for one in setting("paper-split", data=real_data).sessions("train")
    )
    for one in tests:
        if "clean" in one.tags and "disjoint" not in one.tags:
            middle = one.trace.bandwidth_mbps[20:40]
            assert " ".join(f"{value}" for value in middle) in heard


def test_the_paper_split_is_the_published_one(real_data):
    config = setting("paper-split", data=real_data)
    assert [len(config.sessions(part)) for part in ("train", "valid", "test")] == [235, 150, 100]
    first = config.sessions("test")[0]
    assert first.id == "000_trace_942154_http---www.ebay.com_0"
    assert first.start_s == first.trace.time_s[28 - 1]  # pointer 28 of the published list


def test_the_unseen_settings_change_video_and_bandwidth(real_data):
    video1 = setting("unseen-bandwidth", data=real_data).video
    assert video1.name == setting("default", data=real_data).video.name == "video1"
    assert setting("unseen-video", data=real_data).video.name == "video2"
    assert setting("unseen-both", data=real_data).video.name == "video2"
    digests = {one.trace.digest for one in setting("unseen-both", data=real_data).sessions("test")}
    assert len(digests) == 100
    with pytest.raises(ValueError, match=r"only a `test` part, got 'train'. Train on `default`"):
        setting("unseen-video", data=real_data).sessions("train")


@pytest.mark.parametrize(
    ("name", "paper"),
    [("unseen-bandwidth", 1.576), ("unseen-both", 1.302), ("unseen-video", 0.578)],
)
def test_buffer_based_lands_near_the_paper_on_unseen_settings(real_data, buffer_based, name, paper):
    config = setting(name, data=real_data)
    qoe = rollout(buffer_based, config, config.sessions("test")).qoe
    assert np.mean(qoe) == pytest.approx(paper, abs=0.03)  # ORACLES.md, paper's figures
