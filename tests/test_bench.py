"""The benchmark compares like with like: copied weights, equal losses, equal samples."""

import pytest

from minildm import bench


@pytest.mark.slow
def test_ours_and_diffusers_compute_the_same():
    pytest.importorskip("diffusers")
    for name, (ours, theirs) in bench.jobs("cpu", "float32", with_peer=True).items():
        assert ours() == pytest.approx(theirs(), rel=1e-4), name


def test_the_table_shows_every_row_with_and_without_a_peer():
    alone = {"name": "sampler loop", "precision": "bf16", "ours_ms": 12.34}
    text = bench.table([alone, alone | {"peer_ms": 24.68, "ratio": 0.5}])
    assert text.count("sampler loop") == 2 and "12.3" in text and "0.50" in text
