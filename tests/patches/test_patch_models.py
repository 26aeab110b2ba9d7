"""From a folder of chips to a map, and from a place to another, by the commands that users type."""

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from patch_world import NAMES, ground
from PIL import Image

from geopipe.checkpoint import Checkpoint
from geopipe.cli.main import main
from geopipe.raster.cog import read_scheme

QUICK = ["--weights", "random:0", "--sizes", "16,32", "--side", "32", "--gsd", "4"]


def run(*words, ok=True):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert (done.exit_code == 0) == ok, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(chips, tmp_path_factory):
    """A model, and what its training said."""
    out = tmp_path_factory.mktemp("model") / "land.model"
    done = run("patches", "train", chips, out, *QUICK, "--steps", 40, "--no-segments", "--json",
               "--backbone-lr", "1e-3")  # fmt: skip
    return out, json.loads(done.stdout)


def test_training_tells_how_good_it_is(trained):
    said = trained[1]["held_out"]
    assert set(said["sizes"]) == {"16", "32"}
    assert said["all"]["overall_accuracy"] > 0.8


def test_the_model_says_what_it_was_made_from(trained):
    model = Checkpoint.load(trained[0])
    assert model.scheme.names == NAMES
    made = model.provenance
    assert made["patches"]["steps"] == 40
    assert sum(made["patches"]["cells"].values()) == 50 * 9 * 0.8
    assert len(made["pretrained"]["sha256"]) == 64


def test_a_scene_is_mapped_into_a_bundle_with_its_confidence(trained, mosaic, tmp_path):
    path, ids = mosaic
    run("map", path, trained[0], tmp_path / "map", "--device", "cpu")
    with rasterio.open(tmp_path / "map" / "classes.tif") as src:
        assert src.crs.to_epsg() == 32631
        mapped = src.read(1)
    assert (mapped == ids).mean() > 0.8
    assert read_scheme(tmp_path / "map" / "classes.tif").names == NAMES
    with rasterio.open(tmp_path / "map" / "confidence.tif") as src:
        assert src.descriptions == ("confidence",)
        assert src.scales == (1 / 250,)
        sure = src.read(1)
    assert 50 <= sure.min() < sure.max() <= 250
    assets = json.loads((tmp_path / "map" / "item.json").read_text())["assets"]
    assert assets["confidence"]["bands"] == [{"name": "confidence"}]


def test_tiles_of_a_patch_model_show_no_seams(trained, mosaic):
    done = run("verify-seams", mosaic[0], trained[0], "--json")
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["max_difference"] < 1e-4
    assert said["max_score"] > 0.1


def test_labels_of_a_scene_train_too(mosaic, tmp_path, make_raster):
    path, ids = mosaic
    with rasterio.open(path) as src:
        truth = make_raster(ids[None], "ids.tif", crs=src.crs, transform=src.transform)
    scheme = tmp_path / "scheme.toml"
    scheme.write_text('name = "five"\n' + "".join(
        f'[[classes]]\nname = "{n}"\ncolor = "#{i}{i}{i}{i}{i}{i}"\n' for i, n in enumerate(NAMES)
    ))  # fmt: skip
    out = tmp_path / "m.model"
    run("patches", "train", path, out, *QUICK, "--labels", truth, "--classes", scheme,
        "--steps", 2)  # fmt: skip
    assert Checkpoint.load(out).net.refine is not None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sizes", "16,31"], "even number of pixels larger"),
        (["--size-weights", "0,0"], "weights [0.0, 0.0] for 2 sizes"),
        (["--backbone", "lenet"], "efficientnet_lite0"),
        (["--weights", "no-such-file.pth"], "no-such-file.pth"),
        (["--classes", "buildings"], "no class of 'buildings'"),
    ],
)
def test_wrong_options_are_told_in_one_line(chips, tmp_path, words, says):
    done = run("patches", "train", chips, tmp_path / "m.model", *QUICK, *words, ok=False)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_scenes_of_16_bits_are_refused(mosaic, tmp_path, make_raster):
    data = np.full((3, 64, 64), 900, np.uint16)
    path = make_raster(data, crs="EPSG:32631")
    truth = make_raster(np.zeros((1, 64, 64), np.uint8), "t.tif", crs="EPSG:32631")
    done = run("patches", "train", path, tmp_path / "m.model", *QUICK, "--labels", truth,
               "--classes", "land-cover", ok=False)  # fmt: skip
    assert "uint16" in done.stderr


def test_an_unreadable_chip_stops_it_or_is_left_out(chips, tmp_path):
    import shutil

    shutil.copytree(chips, tmp_path / "c")
    (tmp_path / "c" / "water" / "bad.png").write_bytes(b"no image")
    words = ["patches", "train", tmp_path / "c", tmp_path / "m.model", *QUICK, "--steps", 1]
    assert "bad.png" in run(*words, ok=False).stderr
    run(*words, "--skip-bad")


# -- transfer


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Unlabelled chips of the same five kinds under another light."""
    root, rng = tmp_path_factory.mktemp("elsewhere"), np.random.default_rng(7)
    for number in range(40):
        image = ground(number % 5, (48, 48), rng).astype(float)
        Image.fromarray((image * 0.8 + 25).clip(0, 255).astype(np.uint8)).save(
            root / f"{number}.png"
        )
    return root


def transfer(trained, chips, target, out, *words, ok=True):
    return run("transfer", trained, "--source", chips, "--target", target, "--out", out,
               "--steps", 3, "--threshold", 0.3, "--neighbours", 3, *words, ok=ok)  # fmt: skip


def test_a_transfer_trains_or_keeps_the_model_and_says_why(trained, chips, elsewhere, tmp_path):
    out = tmp_path / "new.model"
    done = transfer(trained[0], chips, elsewhere, out, "--json")
    said = json.loads(done.stdout)
    assert bool(said["reasons"]) == (said["trained"] == 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "new.model", "new.model.html", "new.model.json",
    ]  # fmt: skip
    sheet = (tmp_path / "new.model.html").read_text()
    assert all(name in sheet for name in NAMES)
    old, new = (Checkpoint.load(p).net.state_dict() for p in (trained[0], out))
    changed = [k for k in old if not np.array_equal(old[k].numpy(), new[k].numpy())]
    assert bool(changed) == bool(said["trained"])


def test_forced_it_trains_and_abstained_it_keeps(trained, chips, elsewhere, tmp_path):
    forced = transfer(trained[0], chips, elsewhere, tmp_path / "f.model", "--force", "--json")
    assert json.loads(forced.stdout)["trained"] == 1
    same = transfer(trained[0], chips, chips, tmp_path / "s.model", "--json")
    said = json.loads(same.stdout)
    assert said["trained"] == 0
    assert any("alike" in r or "gain" in r for r in said["reasons"])
    kept = Checkpoint.load(tmp_path / "s.model").provenance["transfer"]
    assert kept["abstained"] == said["reasons"]


def test_pseudo_labels_of_a_scene_are_labels_like_any(trained, chips, mosaic, tmp_path):
    path, ids = mosaic
    done = transfer(trained[0], chips, path, tmp_path / "n.model", "--json")
    (raster,) = json.loads(done.stdout)["pseudo_labels"]
    with rasterio.open(raster) as src:
        found = src.read(1)
        assert src.crs.to_epsg() == 32631
        assert found.shape == ids.shape
    known = found != 255
    assert known.any()
    assert not known.all()
    assert (found[known] == ids[known]).mean() > 0.8
    run("patches", "train", path, tmp_path / "again.model", *QUICK, "--labels", raster,
        "--classes", "land-cover", "--steps", 1, "--hold-out", 0.3)  # fmt: skip


def test_nothing_survives_the_threshold(trained, chips, elsewhere, tmp_path):
    out = tmp_path / "n.model"
    done = transfer(trained[0], chips, elsewhere, out, "--threshold", 1, "--force", ok=False)
    assert "no target sample is kept" in done.stderr
    assert not out.exists()


def test_a_model_of_pixels_is_refused(chips, elsewhere, tmp_path):
    from geopipe.classes import load_scheme
    from geopipe.nets import MapNet, build_net

    pixels = Checkpoint(MapNet(build_net(3, 2).eval()), load_scheme("buildings"), (0.0,) * 3,
                        (1.0,) * 3, "uint8")  # fmt: skip
    pixels.save(tmp_path / "p.model")
    done = transfer(tmp_path / "p.model", chips, elsewhere, tmp_path / "n.model", ok=False)
    assert "pixels, not patches" in done.stderr
