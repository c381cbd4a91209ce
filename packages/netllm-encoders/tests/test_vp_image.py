import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_encoders.image import Image, centred

SHAPE = {"rows": 4, "columns": 8, "channels": 5}


def make_image(**settings) -> Image:
    torch.manual_seed(0)
    return Image(**{"hidden": 16, "reduced": 3, **SHAPE} | settings)


def looking(*yaw_deg: float, pitch_deg: float = 0.0) -> torch.Tensor:
    return torch.tensor([[0.0, pitch_deg, yaw] for yaw in yaw_deg])


def test_a_whole_number_of_columns_is_a_circular_shift():
    grid = torch.rand(3, 4, 8, 5)
    turned = centred(grid, torch.tensor([0.0, 90.0, -135.0]))
    assert torch.equal(turned[0], grid[0])
    torch.testing.assert_close(turned[1], grid[1].roll(-2, dims=1))
    torch.testing.assert_close(turned[2], grid[2].roll(3, dims=1))


def test_between_columns_and_across_the_seam_it_is_interpolated():
    grid = torch.arange(4.0).view(1, 1, 4, 1)  # columns at yaw -135, -45, 45, 135
    turned = centred(grid, torch.tensor([22.5])).flatten()
    # By hand: a quarter of a column on; the last is three quarters of 3 and a quarter of 0.
    torch.testing.assert_close(turned, torch.tensor([0.25, 1.25, 2.25, 2.25]))


@given(st.floats(-720, 720), st.floats(0, 360))
def test_the_middle_of_the_grid_is_what_the_viewer_looks_at(yaw, content):
    """A broad bump of the content at some yaw is found at its yaw relative to the viewer."""
    columns = 16
    column_rad = torch.deg2rad((torch.arange(columns) + 0.5) * 360 / columns - 180)
    grid = torch.cos(column_rad - torch.deg2rad(torch.tensor(content))).view(1, 1, -1, 1)
    turned = centred(grid, torch.tensor([yaw])).flatten()
    seen = torch.atan2((turned * column_rad.sin()).sum(), (turned * column_rad.cos()).sum())
    error = torch.rad2deg(seen) - (content - yaw)
    # Linear interpolation between columns of 22.5 degrees bends a cosine's phase by 0.06 at most.
    assert abs((error + 180) % 360 - 180) < 0.1


def test_viewer_and_content_that_turn_together_change_nothing():
    image, grid = make_image(), torch.rand(2, 4, 8, 5)
    torch.testing.assert_close(
        image(grid, looking(10.0, -100.0)),
        image(grid.roll(3, dims=2), looking(10.0 + 135, -100.0 + 135)),
    )


def test_size_and_offset_of_the_features_do_not_matter():
    image, grid = make_image(), torch.rand(2, 4, 8, 5)
    expected = image(grid, looking(0.0, 50.0))
    offset = torch.rand(2, 1, 1, 5)
    torch.testing.assert_close(
        image(100 * grid + offset, looking(0.0, 50.0)), expected, atol=2e-3, rtol=0
    )


def test_a_uniform_frame_gives_finite_features_and_gradients():
    image = make_image()
    grid = torch.full((1, 4, 8, 5), 3.0, dtype=torch.float16)
    image(grid, looking(0.0)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in image.parameters())


def test_the_viewers_pitch_is_known():
    image, grid = make_image(), torch.rand(1, 4, 8, 5)
    up, level = image(grid, looking(0.0, pitch_deg=60.0)), image(grid, looking(0.0))
    assert not torch.allclose(up, level)


def test_where_a_thing_lies_relative_to_the_viewer_is_learned():
    """Frames of noise with one bright cell: its yaw relative to the viewer, 45 degrees a column."""
    generator = torch.Generator().manual_seed(1)
    grid = 0.1 * torch.randn(512, 4, 8, 5, generator=generator)
    row, column = (torch.randint(n, (512,), generator=generator) for n in (4, 8))
    grid[torch.arange(512), row, column] += 1
    yaw = torch.rand(512, generator=generator) * 360 - 180
    relative_rad = torch.deg2rad((column + 0.5) * 45 - 180 - yaw)
    target = torch.stack([relative_rad.sin(), relative_rad.cos()], dim=-1)
    viewport = torch.stack([torch.zeros(512), torch.zeros(512), yaw], dim=-1)
    image, readout = make_image(hidden=32), torch.nn.Linear(32, 2)
    optimizer = torch.optim.Adam([*image.parameters(), *readout.parameters()], lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (readout(image(grid[:448], viewport[:448])) - target[:448]).square().mean()
        loss.backward()
        optimizer.step()
    seen = readout(image(grid[448:], viewport[448:]))
    error_deg = torch.rad2deg(torch.atan2(seen[:, 0], seen[:, 1]) - relative_rad[448:])
    assert ((error_deg + 180) % 360 - 180).abs().mean() < 22.5  # half a column


@pytest.mark.parametrize("shape", [(2, 8, 4, 5), (2, 4, 8, 6), (2, 4, 8)])
def test_a_grid_of_another_shape_is_refused(shape, unchecked_shapes):
    with pytest.raises(ValueError, match=r"must have shape \(batch, 4, 8, 5\), got \(2, "):
        make_image()(torch.zeros(shape), looking(0.0, 0.0))
