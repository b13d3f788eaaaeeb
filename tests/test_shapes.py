"""Lesson 07's world of shapes: drawn as said, found again, judged rightly; and its figures."""

from dataclasses import replace

import pytest
import torch

from minildm.course import shapes
from minildm.course.shapes import (
    COLOURS,
    NOTHING,
    SHAPES,
    WORDS,
    agreement,
    by_place,
    draw_scenes,
    find_shapes,
    ids_of,
    in_order,
    inside,
    is_held_out,
    sentences,
    word_columns,
)
from minildm.course.word_figures import colours_seen, hard_prompts, share_with, shares, show_word_maps


@pytest.mark.parametrize("options", [{}, {"held_out": True}, {"same_shape": True}, {"same_colour": True}],
                         ids=str)
def test_what_is_drawn_is_found(options):
    images, scenes = draw_scenes(300, seed=1, **options)
    assert images.shape == (300, 3, 16, 16) and images.min() == -1 and images.max() == 1
    assert all(right.all() for right in agreement(find_shapes(images), scenes).values())


def test_training_lacks_three_pairs_and_tests_have_them():
    _, training = draw_scenes(5000, seed=0)
    assert not is_held_out(training.colours, training.shapes).any()
    seen = set(zip(training.colours.flatten().tolist(), training.shapes.flatten().tolist(), strict=True))
    assert len(seen - {(NOTHING, NOTHING)}) == len(COLOURS) * len(SHAPES) - 3
    _, tests = draw_scenes(200, seed=0, held_out=True)
    assert is_held_out(tests.colours[:, 0], tests.shapes[:, 0]).all()
    assert not is_held_out(tests.colours[:, 1], tests.shapes[:, 1]).any()


def test_two_things_differ_unless_they_shall_not():
    for options in {}, {"same_shape": True}, {"same_colour": True}:
        _, scenes = draw_scenes(300, seed=2, alone=0.0, **options)
        assert ((scenes.shapes[:, 0] == scenes.shapes[:, 1]) == options.get("same_shape", False)).all()
        assert ((scenes.colours[:, 0] == scenes.colours[:, 1]) == options.get("same_colour", False)).all()


def test_a_seed_decides_everything():
    first, second, other = (draw_scenes(20, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_sentences_become_numbers_of_words():
    _, scenes = draw_scenes(100, seed=5, alone=0.0)
    told = sentences(scenes)
    ids = ids_of(told)
    assert [" ".join(WORDS[i] for i in row) for row in ids.tolist()] == told
    kinds = word_columns(ids)
    words = ids[:, None].expand(-1, 2, -1).gather(2, kinds)
    assert [WORDS[i] for i in words[:, 0].flatten().tolist()] == [
        COLOURS[c] for c in scenes.colours.flatten().tolist()]
    assert [WORDS[i] for i in words[:, 1].flatten().tolist()] == [
        SHAPES[s] for s in scenes.shapes.flatten().tolist()]
    assert ids_of(["a red disc"]).tolist() == [[1, 3, 9, 0, 0, 0, 0, 0]]


def test_what_is_wrong_is_told_apart():
    _, wanted = draw_scenes(50, seed=6, alone=0.0)

    def judged(**changes):
        right = agreement(replace(wanted, **changes), wanted)
        return {name for name, value in right.items() if not value.all()}

    assert judged() == set()
    assert judged(colours=wanted.colours.flip(1)) == {"binding", "place", "all"}
    assert judged(centres=wanted.centres.flip(1)) == {"place", "all"}
    assert judged(colours=(wanted.colours + 3) % 6) >= {"colour", "binding", "all"}
    one = wanted.shapes.clone()
    one[:, 1] = NOTHING
    assert judged(shapes=one) >= {"count", "shape", "all"}
    # the order in which things are found does not count
    turned = replace(wanted, colours=wanted.colours.flip(1), shapes=wanted.shapes.flip(1),
                     centres=wanted.centres.flip(1))
    assert all(right.all() for right in agreement(turned, wanted).values())
    assert torch.equal(in_order(turned, wanted).centres, wanted.centres)
    assert torch.equal(by_place(turned, wanted).colours, wanted.colours)


def test_nothing_is_found_in_a_black_picture():
    found = find_shapes(torch.full((3, 3, 16, 16), -1.0))
    assert (found.shapes == NOTHING).all() and (found.colours == NOTHING).all()


def test_inside_is_the_square_of_a_thing():
    centre = torch.tensor([7, 3])           # pixels 4 to 10 and 0 to 6, edges 4 to 11 and 0 to 7
    points = torch.tensor([[4.1, 0.1], [10.9, 6.9], [3.9, 3.0], [7.0, 7.1]])
    assert inside(points, centre).tolist() == [True, True, False, False]


def test_shares_ask_for_binding_where_all_is_there():
    right = {name: torch.tensor([True, True, False]) for name in ("count", "colour", "shape", "place", "all")}
    right["binding"] = torch.tensor([True, False, False])
    assert shares(right)["of these bound"] == 0.5
    assert shares(right)["both there"] == pytest.approx(2 / 3)


def test_colours_are_seen_by_their_hue():
    images, scenes = draw_scenes(60, seed=7, alone=1.0)
    seen = colours_seen(images)
    big = scenes.shapes[:, 0] != SHAPES.index("dot")
    assert torch.equal(seen[big].nonzero()[:, 1], scenes.colours[big, 0])
    assert share_with(images[big], scenes.colours[big, :1]) == 1


def test_prompts_name_the_colours_that_are_counted():
    three, negated, asked, refused = hard_prompts()
    for prompt, colours in zip(three, asked.tolist(), strict=True):
        assert [prompt.split()[k] for k in (1, 5, 9)] == [COLOURS[c] for c in colours]
    assert [prompt.split()[-1] for prompt in negated] == [COLOURS[c] for c in refused[:, 0].tolist()]


def test_maps_are_drawn_over_the_picture(monkeypatch):
    figures = []
    monkeypatch.setattr("minildm.course.word_figures.show", lambda figure, alt: figures.append(figure))
    images, scenes = draw_scenes(1, seed=8)
    show_word_maps(images[0], sentences(scenes)[0].split(), torch.rand(8, 8, 8), alt="maps")
    assert figures[0].axes[0].get_title() == "drawn"


def test_stamps_are_told_apart():
    ink = shapes.stamps().flatten(1)
    assert (torch.cdist(ink, ink) + 9 * torch.eye(3)).min() > 2
