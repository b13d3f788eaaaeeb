"""Films: the data with its truth, the network whose gates begin closed, noise, words, what is given."""

import pytest
import torch
from PIL import Image

from minildm import MinildmError, films
from minildm.course import films as judging
from minildm.data import moving
from minildm.data.sets import ImageSet
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.films import continued, film_loss, mixed_noise
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, time_grid
from minildm.images import to_float
from minildm.nn import video
from minildm.nn.unet import UNetConfig
from minildm.recipes import moving as recipe
from minildm.recipes.stages import Options
from minildm.samples import save_pictures

FRAMES = 5


def digits(n: int = 7):
    """Grey pictures of a bar and a dot, not alike on any side."""
    pictures = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    pictures[:, :, 5:24, 12:16] = 255
    pictures[:, :, 5:9, 12:20] = 255
    return pictures, torch.arange(n) % 10


def network(patch: int = 1, seed: int = 0, together: bool = True):
    channels = 2 * patch**2
    image = UNetConfig(channels, channels, (8, 12), (False, False), blocks=1, context_dim=8, heads=2,
                       groups=4, num_classes=films.NOTHING)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = video.VideoUNet(video.VideoUNetConfig(image, FRAMES, patch, heads=2, inner=16,
                                                      together=together)).eval()
        # as after a training: the U-Net itself answers zero at first
        for p in model.image.parameters():
            torch.nn.init.normal_(p, std=0.2)
    return model


def some(n: int = 2):
    g = torch.Generator().manual_seed(0)
    return (torch.randn(n, FRAMES, 2, 8, 8, generator=g), torch.rand(n, generator=g),
            torch.randint(0, films.NOTHING, (n, 3), generator=g))


# ---- the network

@pytest.mark.parametrize("together", [True, False])
def test_either_step_alone_lets_a_frame_see_the_others_if_it_sees_them(together):
    """Attention always does; the feed-forward network only where it receives all frames."""
    model = network(together=together)
    x, t, words = some()
    changed = x.clone()
    changed[:, 3] += 1
    for layer in model.temporal_layers():
        torch.nn.init.normal_(layer.ff.net[-1].weight)
    alike = torch.equal(model(x, t, words)[:, 0], model(changed, t, words)[:, 0])
    assert alike != together


@pytest.mark.parametrize("patch", [1, 2])
def test_with_closed_gates_it_is_the_image_network_exactly(patch):
    model = network(patch=patch)
    x, t, words = some()
    alone = model.pictures(x.flatten(0, 1), t.repeat_interleave(FRAMES),
                           words.repeat_interleave(FRAMES, 0))
    assert torch.equal(model(x, t, words).flatten(0, 1), alone)


def test_open_gates_let_a_frame_see_the_others():
    model = network()
    x, t, words = some()
    changed = x.clone()
    changed[:, 3] += 1
    assert torch.equal(model(x, t, words)[:, 0], model(changed, t, words)[:, 0])
    for layer in model.temporal_layers():
        torch.nn.init.normal_(layer.attention.to_out[0].weight)
    assert not torch.equal(model(x, t, words)[:, 0], model(changed, t, words)[:, 0])
    for layer in model.temporal_layers():
        layer.init_weights()
    assert torch.equal(model(x, t, words)[:, 0], model(changed, t, words)[:, 0])


def test_a_time_for_all_frames_is_that_time_for_each():
    model = network()
    x, t, words = some()
    each = t[:, None].repeat(1, FRAMES)
    torch.testing.assert_close(model(x, t, words), model(x, each, words))


def test_the_ways_to_tokens_come_back():
    h = torch.randn(3 * FRAMES, 4, 2, 3)
    tokens = video.to_time(h, FRAMES)
    assert tokens.shape == (18, FRAMES, 4)
    assert torch.equal(tokens[6 + 5, 3], h[FRAMES + 3, :, 1, 2])
    assert torch.equal(video.from_time(tokens, h), h)


def test_impossible_networks_are_refused():
    image = network().config.image
    with pytest.raises(MinildmError, match="multiple of 3 heads"):
        video.VideoUNetConfig(image, FRAMES, heads=3)
    with pytest.raises(MinildmError, match="inner"):
        video.VideoUNetConfig(image, FRAMES, heads=2, inner=0)


# ---- data

def test_films_are_drawn_by_seed_and_their_truth_is_what_they_show():
    clips, truth = moving.compose(*digits(), 6, seed=3)
    again, _ = moving.compose(*digits(), 6, seed=3)
    assert torch.equal(clips, again) and clips.shape == (6, 12, 1, 32, 32)
    centres = judging.centres_of(to_float(clips))
    assert (centres - truth.positions[:, :, 0]).norm(dim=-1).mean() < 0.15
    found = judging.fit_paths(centres)
    assert found.right.all() and found.error.max() < 0.3


def test_paths_turn_round_at_the_walls():
    start, velocity = torch.tensor([21.0, 10.0]), torch.tensor([3.0, -2.0])
    path = moving.paths(start, velocity, 3)
    assert path.tolist() == [[21, 10], [22, 10], [19, 12]]


def test_captions_say_digit_direction_and_bounce():
    truth = moving.Truth(torch.tensor([[3], [8]]), moving.paths(
        torch.tensor([[[16.0, 16.0]], [[16.0, 16.0]]]),
        torch.tensor([[[-0.1, 0.0]], [[1.5, 1.5]]])).movedim(1, 2),
        torch.tensor([[[-0.1, 0.0]], [[1.5, 1.5]]]))
    assert moving.captions(truth) == ["a three moves left", "an eight moves right and down and bounces"]
    assert films.words_of(truth).tolist() == [[3, 14, 18], [8, 11, 19]]


def test_two_digits_have_a_truth_each():
    clips, truth = moving.compose(*digits(), 4, seed=1, count=2)
    assert truth.labels.shape == (4, 2) and (truth.labels[::2, 1] == -1).all()
    assert [" while " in caption for caption in moving.captions(truth)] == [False, True] * 2
    assert clips[1].sum() > clips[0].sum()


# ---- noise, loss, words

def test_noise_has_its_share_in_common():
    noise = mixed_noise((4000, 3, 2), 0.4, torch.Generator().manual_seed(0))
    covariance = torch.einsum("bfc,bgc->fg", noise, noise) / 8000
    wanted = 0.4 + 0.6 * torch.eye(3)
    torch.testing.assert_close(covariance, wanted, rtol=0, atol=0.06)


def test_given_frames_do_not_count_and_are_what_is_answered():
    class Exact(torch.nn.Module):
        """A network that would be wrong in the first two frames alone."""

        config = None

        def forward(self, x, t, words):
            self.t = t
            return 0 * x

    net = Exact()
    denoiser = Denoiser(net, flow, "flow")
    x, _, words = some()
    loss = film_loss(denoiser, x, words, torch.Generator().manual_seed(0), given=1.0)["loss"]
    assert (net.t[:, :2] == 0).all() and (net.t[:, 2:] > 0).all() and loss.isfinite()
    denoise = continued(denoiser, x[:, :2])
    end = last(ddim(lambda x, t: denoise(x, t, words), flow, torch.randn(x.shape), time_grid(3)))
    assert torch.equal(end[:, :2], x[:, :2])


def test_words_are_read_from_labels_and_sentences():
    words = films.FilmWords()
    assert words.read([3, 0]).tolist() == [[3, 20, 20], [0, 20, 20]]
    said = words.read(["a three moves left and up and bounces", "an eight moves down", "bounces"])
    assert said.tolist() == [[3, 15, 19], [8, 12, 20], [20, 20, 19]]
    assert words.null(2).tolist() == [[20] * 3] * 2
    for wrong in ("a red three", "a three and a four", "a three moves left and right"):
        with pytest.raises(MinildmError, match="no film"):
            words.read([wrong])
    dropped = words.drop(said.repeat(300, 1), torch.Generator().manual_seed(0))
    assert 0.05 < (dropped == 20).all(1).float().mean() < 0.5


def test_films_are_written_moving_and_as_a_strip(tmp_path):
    clips, _ = moving.compose(*digits(), 2, seed=0)
    save_pictures(tmp_path / "x.gif", to_float(clips), ["a", "b"])
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 12
    assert (tmp_path / "x.png").is_file()
    with pytest.raises(MinildmError, match="do not move"):
        save_pictures(tmp_path / "y.gif", to_float(clips[:, 0]), ["a", "b"])


# ---- the recipe

def test_the_recipe_trains_all_stages_and_goes_on_where_it_stopped(tmp_path):
    images, labels = digits(20)
    sets = ImageSet("bars", "train", images, labels, tuple("0123456789"))
    options = Options(budget="smoke", bar=False)
    whole = recipe.train(sets, options, tmp_path / "run").model.denoiser.state_dict()
    again = recipe.train(sets, options, tmp_path / "run").model.denoiser.state_dict()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"images", "films0"}
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    fresh = video.VideoUNet(recipe.SIZES["smoke"].network).state_dict()
    opened = [name for name in whole if name.endswith("to_out.0.weight") and "_time" in name]
    assert opened and all(fresh[name.removeprefix("network.")].eq(0).all() for name in opened)
    assert all(whole[name].ne(0).any() for name in opened)
