"""The seeded generator: users who follow what the frames show."""

from itertools import combinations

import numpy as np
import pytest
from netllm_sims.vp import geometry, mae_deg, setting
from netllm_sims.vp.synthetic_scenes import make_scene


@pytest.fixture(scope="module")
def config():
    return setting("synthetic")


def test_the_same_seed_gives_the_same_and_another_seed_others(config):
    same, other = setting("synthetic"), setting("synthetic", seed=1)
    one = config.clips("test")[3]
    np.testing.assert_array_equal(one.history_deg, same.clips("test")[3].history_deg)
    assert np.abs(one.history_deg - other.clips("test")[3].history_deg).max() > 1
    shown = config.frames_of(one.video).at(9.0)
    np.testing.assert_array_equal(shown, same.frames_of(one.video).at(9.0))
    assert (shown != other.frames_of(one.video).at(9.0)).any()


def test_no_video_and_no_user_is_in_two_parts(config):
    seen = [
        {name for clip in config.clips(part) for name in (clip.video, clip.user)}
        for part in config.parts
    ]
    assert not any(one & other for one, other in combinations(seen, 2))


def test_a_part_that_is_asked_for_alone_is_the_same(config):
    alone = setting("synthetic").clips("valid")
    for one, other in zip(config.clips("valid"), alone, strict=True):
        assert one.id == other.id
        np.testing.assert_array_equal(one.future_deg, other.future_deg)


def test_another_rate_samples_the_same_movement(config):
    fine = setting("synthetic", rate_hz=10.0, history=20, trim_head=60, stride=30)
    np.testing.assert_allclose(
        fine.clips("test")[0].history_deg[0, 1::2], config.clips("test")[0].history_deg[0], atol=15
    )


def test_heads_move_as_heads_can(config):
    paths = geometry.to_vectors(np.concatenate([c.future_deg for c in config.clips("test")]))
    cosine = np.clip((paths[:, 1:] * paths[:, :-1]).sum(axis=-1), -1, 1)
    speed = np.rad2deg(np.arccos(cosine)) * config.rate_hz
    assert speed.max() < 200  # °/s: at most 160 and the trembling
    assert 0.02 < (speed > 60).mean() < 0.3  # saccades are part of it
    assert np.median(speed) < 20  # and so is pursuit


def test_frames_are_equirectangular_pictures_with_a_seamless_back(config):
    frames = config.frames_of(config.clips("test")[0].video)
    frame = frames.at(30.0)
    assert frame.shape == (64, 128, 3)
    assert frame.dtype == np.uint8
    assert frames.seconds == 60.0
    assert np.abs(frame[:, 0].astype(int) - frame[:, -1]).max() < 120
    assert len({config.frames_of(c.video).at(30.0).tobytes() for c in config.clips("test")}) == 10


def test_what_is_not_yet_there_changes_no_earlier_frame_and_no_earlier_movement():
    from dataclasses import replace

    from netllm_sims.vp.synthetic_viewers import watch

    scene = make_scene(np.random.default_rng(0))
    late = scene.birth_s > 30
    moved = replace(
        scene,
        yaw_deg=np.where(late, scene.yaw_deg + 100, scene.yaw_deg),
        salience=np.where(late, 0.99, scene.salience),
    )
    np.testing.assert_array_equal(scene.draw(30.0), moved.draw(30.0))
    one, other = (watch(s, seed=0, video=0, users=[0, 1]) for s in (scene, moved))
    np.testing.assert_array_equal(one[:301], other[:301])
    assert np.abs(one[301:] - other[301:]).max() > 30


def test_the_disc_of_a_lone_point_is_where_it_is():
    scene = make_scene(np.random.default_rng(1))
    time_s = 20.0
    poi = int(np.argmax(scene.salience_at(time_s)))
    with_all = scene.draw(time_s).astype(int)
    yaw, pitch = scene.where(time_s)[poi]
    row, column = int((90 - pitch) / 180 * 64), int((yaw + 180) / 360 * 128)
    brightness = 255 * (0.4 + 0.6 * scene.salience_at(time_s)[poi])
    np.testing.assert_allclose(
        with_all[row, column], np.round(brightness * scene.colour[poi]), atol=1
    )


def brightest(frame):
    """Direction of the middle of the brightest pixels, by the frame alone."""
    light = frame.astype(float).sum(axis=-1)
    rows, columns = np.nonzero(light >= 0.9 * light.max())
    looks = np.stack([(columns + 0.5) * 360 / 128 - 180, 90 - (rows + 0.5) * 180 / 64], axis=-1)
    vectors = geometry.to_vectors(geometry.from_yaw_pitch(looks))
    return (vectors * np.cos(np.deg2rad(looks[:, 1:]))).sum(axis=0)


def turn_to_the_brightest(config, clips, shift):
    """MAE in degrees of turning within 1.5 s to the brightest spot of the frame."""
    videos = list(dict.fromkeys(clip.video for clip in clips))
    shown = {
        video: config.frames_of(videos[(i + shift) % len(videos)]) for i, video in enumerate(videos)
    }
    share = np.clip((np.arange(1, 21) * 0.2 - 0.5) / 1.0, 0, 1)[:, None]
    errors = []
    for clip in clips:
        targets = np.stack([brightest(shown[clip.video].at(time_s)) for time_s in clip.time_s])
        targets /= np.linalg.norm(targets, axis=-1, keepdims=True)
        last = geometry.to_vectors(clip.history_deg[:, -1])
        aims = last[:, None] * (1 - share) + targets[:, None] * share
        errors.append(mae_deg(geometry.from_vectors(aims), clip.future_deg))
    return float(np.concatenate(errors).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frames_tell_where_heads_turn_but_only_those_of_the_video(seed):
    config = setting("synthetic", seed=seed)
    clips = config.clips("test")
    held = np.concatenate(
        [
            mae_deg(np.repeat(clip.history_deg[:, -1:], 20, axis=1), clip.future_deg)
            for clip in clips
        ]
    ).mean()
    assert turn_to_the_brightest(config, clips, 0) < 0.85 * held
    assert turn_to_the_brightest(config, clips, 1) > 1.2 * held
