"""Pictures edited by the zoo's models, and `minildm edit`: kept pixels, wrong files, wrong words."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from minildm import LatentDiffusion, MinildmError, cli, edits
from minildm.images import to_float

SCENE = "a red three in the middle"


@pytest.fixture(scope="module")
def scenes():
    return LatentDiffusion.load("scenes")


@pytest.fixture(scope="module")
def digits():
    return LatentDiffusion.load("mnist-unet")


@pytest.fixture(scope="module")
def scene(scenes):
    return ((scenes.generate([SCENE], 10) + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory, scene):
    """Pictures and masks, good and bad, in a folder."""
    folder = tmp_path_factory.mktemp("edits")
    Image.fromarray(scene[0].permute(1, 2, 0).numpy()).save(folder / "scene.png")
    Image.new("RGBA", (100, 60), (255, 0, 0, 128)).save(folder / "wide.webp")
    Image.new("L", (32, 32), 0).save(folder / "black.png")
    Image.new("L", (32, 32), 255).save(folder / "white.png")
    Image.new("L", (31, 32), 255).save(folder / "small.png")
    half = np.zeros((32, 32), np.uint8)
    half[:, :16] = 255
    Image.fromarray(half).save(folder / "half.png")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "scene.png").read_bytes()[:60])
    return folder


# ---- on pictures

def test_inpainting_keeps_the_original_pixels_exactly(scenes, scene):
    mask = edits.box_mask((2, 4, 20, 30), 32)
    edited = edits.inpaint(scenes, scene, mask, ["a blue eight in the middle"], num_inference_steps=4)
    kept = ~mask.expand_as(scene)
    assert torch.equal(edited.images[kept], to_float(scene)[kept])
    assert not torch.equal(edited.images[~kept], to_float(scene)[~kept])


def test_a_position_is_kept_only_if_all_its_pixels_are(digits):
    mask = torch.zeros(1, 1, 28, 28, dtype=torch.bool)
    mask[..., 13, 13] = True
    keep = edits.kept_positions(digits, mask)
    side, stride = digits.latent_shape[-1], digits.latent_space.stride
    border = (side * stride - 28) // 2
    place = (13 + border) // stride
    assert keep.shape == (1, 1, side, side) and keep.sum() == side * side - 1
    assert keep[0, 0, place, place] == 0


@torch.no_grad()
@pytest.mark.parametrize("kind", ["scenes", "digits"])
def test_a_guess_is_corrected_towards_the_kept_pixels(kind, request):
    model = request.getfixturevalue(kind)
    size, wanted = model.image_size, {"scenes": [SCENE], "digits": [3]}[kind]
    one = ((model.generate(wanted, 4) + 1) * 127.5).round().to(torch.uint8)
    guess, picture = edits.latents_of(model, one), to_float(one.roll(2, -1))
    mask = edits.box_mask((0, 13, size, size), size)            # no multiple of the latent's stride
    plain = model.decode(guess)
    agreed = model.decode(edits.agreeing(model, lambda x, t: x, picture, mask)(guess, torch.tensor(0.5)))
    kept = ~mask.expand_as(plain)
    assert (agreed - picture)[kept].abs().mean() < 0.5 * (plain - picture)[kept].abs().mean()
    assert (agreed - plain)[..., 20:, :].abs().max() < 0.3
    # where pasting changes nothing, nothing is changed
    nothing = edits.agreeing(model, lambda x, t: x, picture, torch.ones_like(mask))
    inside = nothing(guess, torch.tensor(0.5))[..., 1:-1, 1:-1]
    assert_close(inside, guess[..., 1:-1, 1:-1], atol=1e-2, rtol=0)


def test_strength_0_is_the_vaes_copy_and_1_a_new_picture(scenes, scene):
    same = edits.img2img(scenes, scene, [SCENE], 0.0, num_inference_steps=4).images
    assert torch.equal(same, scenes.decode(edits.latents_of(scenes, scene)))
    new = edits.img2img(scenes, scene, [SCENE], 1.0, num_inference_steps=4, seed=3).images
    assert_close(new, scenes.generate([SCENE], 4, seed=3), atol=1e-5, rtol=0)


def test_the_same_words_edit_nothing(scenes, scene):
    edited = edits.edit(scenes, scene, [SCENE], [SCENE], num_inference_steps=4)
    assert_close(edited.images, scenes.decode(edits.latents_of(scenes, scene)))


@pytest.mark.parametrize("shift, new", [((8, 0), np.s_[:, :, :, :8]), ((-8, 0), np.s_[:, :, :, -8:]),
                                        ((0, 8), np.s_[:, :, :8]), ((0, -8), np.s_[:, :, -8:])])
def test_outpainting_moves_the_picture_and_draws_the_rest(scenes, scene, shift, new):
    edited = edits.outpaint(scenes, scene, shift, [SCENE], num_inference_steps=2)
    moved = torch.roll(to_float(scene), shift[::-1], dims=(-2, -1))
    is_new = torch.zeros_like(moved, dtype=torch.bool)
    is_new[new] = True
    assert torch.equal(edited.images[~is_new], moved[~is_new])
    assert not torch.equal(edited.images[is_new], moved[is_new])


def test_labels_are_asked_as_labels(digits):
    picture = ((digits.generate([8], 4) + 1) * 127.5).round().to(torch.uint8)
    edited = edits.img2img(digits, picture, [3], 0.5, num_inference_steps=4)
    assert edited.images.shape == (1, 1, 28, 28)


def test_masks_of_another_size_are_refused(scenes, scene):
    with pytest.raises(MinildmError, match="mask"):
        edits.inpaint(scenes, scene, torch.ones(1, 1, 28, 28, dtype=torch.bool), [SCENE])
    with pytest.raises(MinildmError, match="bool"):
        edits.inpaint(scenes, scene, torch.ones(1, 1, 32, 32), [SCENE])
    with pytest.raises(MinildmError, match="stays in sight"):
        edits.outpaint(scenes, scene, (32, 0), [SCENE])


# ---- the command

GOOD = [
    "scene.png --prompt PROMPT --box 0 0 16 32", "scene.png --prompt PROMPT --mask half.png",
    "scene.png --prompt PROMPT --strength 0.5", "scene.png --prompt PROMPT", "wide.webp --prompt PROMPT",
    "scene.png --prompt PROMPT --move 8 0", "scene.png --prompt PROMPT --invert OLD",
    "scene.png --model mnist-unet --prompt three", "scene.png --model mnist-unet --prompt 3 --invert 8",
]


@pytest.mark.parametrize("line", GOOD)
def test_each_way_writes_a_picture(line, files, tmp_path, capsys):
    named = {"PROMPT": "a blue three in the middle", "OLD": SCENE}
    words = [named.get(word, str(files / word) if (files / word).is_file() else word)
             for word in line.split()]
    out = tmp_path / "out.png"
    assert cli.main(["edit", *words, "--steps", "2", "--out", str(out)]) == 0
    assert Image.open(out).size[0] > 60
    assert "edited in" in capsys.readouterr().out


BAD = [     # what is asked, what the answer must name
    ("scene.png", "--prompt takes what is wanted"),
    ("no.png --prompt x", "IMAGE takes a picture that exists"),
    ("text.png --prompt x", "no picture that can be read"),
    ("cut.png --prompt x", "no picture that can be read"),
    (". --prompt x", "IMAGE takes a picture"),
    ("--prompt x", "IMAGE"),
    ("scene.png --prompt x --mask no.png", "--mask takes a picture"),
    ("scene.png --prompt x --mask text.png", "can be read"),
    ("scene.png --prompt x --mask small.png", "the mask is 31×32, the picture 32×32"),
    ("scene.png --prompt x --mask black.png", "all black"),
    ("scene.png --prompt x --mask white.png", "all white"),
    ("scene.png --prompt x --box 0 0 33 8", "inside the picture"),
    ("scene.png --prompt x --box 8 0 8 8", "--box takes"),
    ("scene.png --prompt x --box -1 0 8 8", "--box"),
    ("scene.png --prompt x --box 0 0 8", "--box"),
    ("scene.png --prompt x --box 0 0 32 32", "all white"),
    ("scene.png --prompt x --strength 1.5", "--strength takes 0 to 1"),
    ("scene.png --prompt x --strength nan", "--strength takes 0 to 1"),
    ("scene.png --prompt x --strength 0.5 --move 1 1", "its place alone"),
    ("scene.png --prompt x --move 0 0", "--move takes"),
    ("scene.png --prompt x --move 40 0", "stays in sight"),
    ("scene.png --model mnist-unet --prompt red", "classes, not sentences"),
    ("scene.png --model mnist-unet --prompt 10", "classes, not sentences"),
    ("scene.png --model nope --prompt x", "there is no model"),
    ("scene.png --prompt x --out x.jpg", ".png"),
    ("scene.png --prompt x --seed -1", "--seed takes"),
    ("scene.png --prompt x --steps 0", "--steps takes"),
    ("scene.png --prompt x --guidance-scale -1", "--guidance-scale takes"),
]


@pytest.mark.parametrize("line, named", BAD)
def test_bad_input_is_a_sentence_and_exit_2(line, named, files, tmp_path, capsys):
    words = [str(files / word) if (files / word).is_file() else word for word in line.split()]
    try:
        code = cli.main(["edit", *words] + ([] if "--out" in words else ["--out", str(tmp_path / "x.png")]))
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2 and named in " ".join(said.split())
    assert "Traceback" not in said and len(said.strip().splitlines()) <= 6
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("line", ["scene.png", "no.png --prompt x", "text.png --prompt x",
                                  "scene.png --prompt x --mask small.png",
                                  "scene.png --prompt x --strength 2"])
def test_files_and_numbers_are_looked_at_before_the_model_is_loaded(line, files, monkeypatch):
    def load(*args):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(LatentDiffusion, "load", load)
    words = [str(files / word) if (files / word).is_file() else word for word in line.split()]
    assert cli.main(["edit", *words]) == 2
