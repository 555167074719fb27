"""A batch of raw pixels becomes what the network sees, each image varied at random."""

import numpy as np
import pytest
import torch

from engine.data.augmentation import Augmentation

MEAN, STD = [100.0, 120.0, 140.0], [50.0, 60.0, 70.0]


def random_images(count=8, channels=3, side=16):
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)


def plain(images):
    return Augmentation(MEAN[: images.shape[1]], STD[: images.shape[1]])(images)


def augmented(images, seed=0, **options):
    torch.manual_seed(seed)
    return Augmentation(MEAN[: images.shape[1]], STD[: images.shape[1]], **options)(images)


def spot(side=16, row=8, column=8, count=200):
    """Images that are 0 but for one bright pixel, which tells where it went."""
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    images[:, :, row, column] = 255
    return images


def places(inputs):
    """Where the brightest pixel of each image is: (B,) rows and columns."""
    brightest = inputs.flatten(1).argmax(dim=1)
    return brightest // inputs.shape[-1], brightest % inputs.shape[-1]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def test_every_channel_is_normalised():
    images = random_images()
    expected = (images.double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert plain(images).dtype == torch.float32
    torch.testing.assert_close(plain(images).double(), expected, rtol=0, atol=1e-5)


def test_off_draws_no_random_number():
    state = torch.get_rng_state()
    plain(random_images(count=1)[:0])
    before = torch.get_rng_state()
    plain(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(state, before)  # making the random images did


@pytest.mark.parametrize(
    "options",
    [{"flip": True}, {"shift": 0.2}, {"rotate": 30.0}, {"scale": 0.2}, {"cutout": 0.5}, {"crop": 0.3}],
    ids=str,
)
def test_the_seed_of_the_global_generator_decides(options):
    images = random_images()
    assert torch.equal(augmented(images, seed=3, **options), augmented(images, seed=3, **options))
    assert not torch.equal(augmented(images, seed=3, **options), augmented(images, seed=4, **options))


def test_the_images_themselves_stay_as_they_are():
    images = random_images()
    before = images.clone()
    augmented(images, flip=True, shift=0.2, cutout=0.5)
    augmented(images, flip=True, shift=0.2, rotate=10, cutout=0.5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("others", [{}, {"rotate": 1e-9}], ids=["looked up", "resampled"])
class TestBothWays:
    """Flip and shift are looked up pixel by pixel, or are part of the resampling where that is needed anyway."""

    def test_flip_mirrors_about_half_of_the_images(self, others):
        images = random_images(count=400)
        result, straight = augmented(images, flip=True, **others), plain(images)
        close = [torch.isclose(result, kind, atol=1e-3).flatten(1).all(dim=1) for kind in (straight, straight.flip(3))]
        assert torch.all(close[0] ^ close[1])
        assert 150 < close[0].sum() < 250

    def test_shift_reaches_its_fraction_either_way_on_both_axes(self, others):
        rows, columns = places(augmented(spot(), shift=0.25, **others))
        for place in (rows, columns):
            assert (place.min(), place.max()) == (4, 12)
            assert len(place.unique()) == 9
        assert not torch.equal(rows, columns)

    def test_what_comes_in_from_outside_is_the_edge(self, others):
        images = torch.full((50, 1, 8, 8), 200, dtype=torch.uint8)
        torch.testing.assert_close(augmented(images, shift=0.5, **others), plain(images))

    def test_what_comes_in_from_outside_is_mirrored_where_that_is_asked_for(self, others):
        """So that a ramp goes on as steep as it is, but for the one place where it turns round."""
        images = (10 * torch.arange(16, dtype=torch.uint8)).expand(300, 1, 16, 16)
        torch.manual_seed(0)
        shown = Augmentation([0.0], [1.0], shift=0.4, reflect=True, **others)(images)
        steep = torch.isclose(shown.diff(dim=3).abs(), torch.tensor(10.0), atol=1e-3)
        assert steep.sum(dim=3).min() >= 13
        assert torch.isclose(shown[:, 0, 0, 0], torch.tensor(55.0), atol=10).any()  # from far beyond the edge
        assert (shown.min() >= 0, shown.max() <= 150) == (True, True)


@pytest.mark.parametrize("flip", [False, True])
def test_a_reflected_shift_is_one_that_numpy_pads_and_cuts(flip):
    """Each image is one of all shifts of NumPy's `pad(mode="symmetric")`, and all of them come up."""
    image = np.random.default_rng(0).permutation(64).astype(np.uint8).reshape(8, 8)
    padded = np.pad(image, 2, mode="symmetric")
    shifts = [padded[row : row + 8, column : column + 8] for row in range(5) for column in range(5)]
    shifts += [shift[:, ::-1] for shift in shifts] if flip else []
    images = torch.from_numpy(image).expand(1000, 1, 8, 8)
    shown = Augmentation([0.0], [1.0], shift=2.499 / 8, reflect=True, flip=flip)(images)[:, 0].numpy()
    found = [next(number for number, shift in enumerate(shifts) if (shift == one).all()) for one in shown]
    assert np.bincount(found, minlength=len(shifts)).min() > 0


class TestResampling:
    def test_rotation_reaches_its_degrees_either_way_and_keeps_the_distance(self):
        side = 65
        rows, columns = places(augmented(spot(side, row=32, column=56, count=500), rotate=30.0))
        up, right = 32.0 - rows, columns - 32.0
        angles = torch.rad2deg(torch.atan2(up, right))
        assert 27 < angles.max() < 32
        assert -32 < angles.min() < -27
        assert torch.all((torch.hypot(up, right) - 24).abs() < 1.5)

    def test_scale_makes_larger_and_smaller(self):
        side = 65
        _, columns = places(augmented(spot(side, row=32, column=52, count=500), scale=0.25))
        reach = (columns - 32) / 20
        assert 1.18 < reach.max() < 1.30
        assert 0.70 < reach.min() < 0.82

    def test_nothing_happens_where_every_size_is_next_to_nothing(self):
        images = random_images()
        torch.testing.assert_close(augmented(images, scale=1e-9), plain(images), rtol=0, atol=1e-3)


class TestCrop:
    side = 64

    @pytest.fixture
    def windows(self):
        """Left, right, top and bottom of the part of each image that is enlarged, as fractions of the side: (4, B)."""
        ramp = torch.arange(self.side, dtype=torch.uint8)
        images = torch.stack([ramp.expand(self.side, -1), ramp[:, None].expand(-1, self.side)]).expand(1000, -1, -1, -1)
        torch.manual_seed(0)
        shown = Augmentation([0.0, 0.0], [1.0, 1.0], crop=0.3)(images) / self.side
        corners = shown[:, 0, 0, 1], shown[:, 0, 0, -2], shown[:, 1, 1, 0], shown[:, 1, -2, 0]  # not at the very edge
        return torch.stack(corners)

    def test_parts_are_as_large_as_they_may_be_and_of_3_to_4_at_most(self, windows):
        widths, heights = ((windows[a + 1] - windows[a]) * self.side / (self.side - 3) for a in (0, 2))
        areas, ratios = widths * heights, widths / heights
        assert areas.min() == pytest.approx(0.3, abs=0.01)
        assert 0.95 < areas.max() < 1.01
        assert ratios.min() == pytest.approx(3 / 4, abs=0.02)
        assert ratios.max() == pytest.approx(4 / 3, abs=0.02)

    def test_they_lie_within_the_image_and_everywhere_in_it(self, windows):
        left, right, top, bottom = windows
        for first, last in ((left, right), (top, bottom)):
            assert first.min() >= 0
            assert last.max() <= 1
            assert first.min() < 0.02
            assert last.max() > 0.96
            assert first.max() > 0.3
        assert torch.corrcoef(torch.stack([left, top]))[0, 1].abs() < 0.3

    def test_no_part_is_wider_or_higher_than_the_image(self):
        ramp = torch.arange(self.side, dtype=torch.uint8).expand(300, 1, self.side, -1)
        for images, axis in ((ramp, 3), (ramp.transpose(2, 3), 2)):
            enlarged = Augmentation([0.0], [1.0], crop=0.95)(images)
            assert enlarged.diff(dim=axis).max() < 1.001  # it never reaches for more than a pixel per pixel

    def test_flip_and_the_rest_happen_within_them(self):
        images = random_images(count=400)
        mirrored = augmented(images, crop=0.999999, flip=True)
        straight = augmented(images, crop=0.999999)
        same = (mirrored - straight).abs().flatten(1).amax(dim=1) < 1e-3
        assert torch.allclose(mirrored[~same], straight[~same].flip(3), atol=1e-3)
        assert 150 < same.sum() < 250


class TestCutout:
    def test_a_square_becomes_the_mean(self):
        blank = augmented(torch.full((500, 3, 20, 20), 255, dtype=torch.uint8), cutout=0.3) == 0
        assert torch.equal(blank[:, 0], blank[:, 1])
        heights, widths = blank[:, 0].any(dim=2).sum(dim=1), blank[:, 0].any(dim=1).sum(dim=1)
        assert torch.equal(blank[:, 0].sum(dim=(1, 2)), heights * widths)
        assert heights.max() == widths.max() == 6
        assert (heights == 6).float().mean() > 0.5  # less where it crosses the edge

    def test_it_is_at_another_place_in_each_image(self):
        blank = augmented(torch.full((500, 1, 20, 20), 255, dtype=torch.uint8), cutout=0.3) == 0
        assert blank.any(dim=0).all()
        assert len(blank.flatten(1).unique(dim=0)) > 100
