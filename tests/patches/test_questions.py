"""Questions about a target: written, filled in, and what is decided and learnt from them."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from patch_world import NAMES, ground, untrained
from PIL import Image
from shapely import box

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.cli.main import main
from geopipe.labels.openvector import read_dataframe
from geopipe.learn.ask import Questions, read_answers, write_questions
from geopipe.learn.ask.answers import gathered
from geopipe.learn.patches import PatchGrid, embed
from geopipe.learn.patches.model import PatchSource


def run(*words, ok=True):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert (done.exit_code == 0) == ok, done.stderr
    return done


@pytest.fixture(scope="module")
def world(chips, design, scheme, tmp_path_factory):
    """An old and an adapted model, a target of 15 chips, and the words of every command."""
    root, rng = tmp_path_factory.mktemp("ask"), np.random.default_rng(7)
    design = replace(design, sizes=(16,))
    for path in (p for name in NAMES for p in sorted((chips / name).iterdir())[:3]):
        (root / "source" / path.parent.name).mkdir(parents=True, exist_ok=True)
        chip = Image.open(path).convert("RGB").crop((0, 0, 32, 32))
        chip.save(root / "source" / path.parent.name / path.name)
    chips = root / "source"
    models = {}
    for name in ("old", "adapted"):
        model = untrained(design, scheme)
        if name == "old":  # its last layer tells nothing; the other one's is trained below
            torch.manual_seed(5)
            model.net.base.head.weight.data = torch.randn(model.net.base.head.weight.shape)
        else:
            _fit(model, chips)
        models[name] = root / f"{name}.model"
        model.save(models[name])
    target = root / "target"
    for number in range(15):
        kind = number % 5
        (target / NAMES[kind]).mkdir(parents=True, exist_ok=True)
        image = ground(kind, (48, 48), rng).astype(float) * 0.9 + 12
        path = target / NAMES[kind] / f"{number}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
    words = ["transfer", models["old"], "--source", chips, "--target", target]
    return {"words": [*words, "--cache", root / "cache"], "target": target, **models}


def _fit(model, chips):
    """Give the model a last layer that is right."""
    from sklearn.linear_model import LogisticRegression

    rasters = PatchSource((str(chips),)).rasters(model.scheme, 4, labelled=True)
    patches = PatchGrid.of(rasters, 16)
    seen = embed(model, "x", patches)
    fitted = LogisticRegression(max_iter=300).fit(seen.features, patches.ids)
    head = model.net.base.head
    head.weight.data = torch.from_numpy(fitted.coef_.astype(np.float32))
    head.bias.data = torch.from_numpy(fitted.intercept_.astype(np.float32))


def truth_of(world, path):
    """id -> the class of the chip that each question is about; unlabelled, so by its name."""
    scheme = Checkpoint.load(world["old"]).scheme
    rasters = PatchSource((str(world["target"]),)).rasters(scheme, 4, labelled=True)
    questions = read_answers(path).questions
    return {i + 1: NAMES[rasters[p[0]].class_id] for i, p in enumerate(questions.positions)}


def fill(path, answers):
    with closing(sqlite3.connect(path)) as db, db:
        # Triggers of a GeoPackage's spatial index call functions that only GDAL has.
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        for number, name in answers.items():
            db.execute("UPDATE questions SET truth = ? WHERE id = ?", [name, number])


def asked(world, out, *words, **kw):
    return run(*world["words"], "--adapted", world["adapted"], "-o", out, *words, "--json", **kw)


@pytest.fixture(scope="module")
def answered(world, tmp_path_factory):
    """Thirty questions, filled in rightly."""
    out = tmp_path_factory.mktemp("answered") / "q.gpkg"
    result = json.loads(asked(world, out, "--ask", 30).stdout)
    fill(out, truth_of(world, out))
    return out, result


@pytest.fixture
def questions(answered, tmp_path):
    """A copy of the file to spoil; the adapted model is named by `--adapted`."""
    path = tmp_path / "q.gpkg"
    path.write_bytes(answered[0].read_bytes())
    return path


def test_questions_are_where_the_models_disagree_and_do_not_say_what_they_think(world, answered):
    out, result = answered
    assert (result["questions"], result["role"]) == (30, "decide")
    assert result["decision"]["choice"] == "undecided"
    assert result["decision"]["more"] > 1
    patches = PatchGrid.of(
        PatchSource((str(world["target"]),)).rasters(
            Checkpoint.load(world["old"]).scheme, 4, labelled=False
        ),
        16,
    )
    classes = []
    for name in ("old", "adapted"):
        model = Checkpoint.load(world[name])
        seen = embed(model, "y", patches).summed(model.net.base.weights)
        classes.append(seen.argmax(1))
    index = {tuple(p): i for i, p in enumerate(patches.positions.tolist())}
    cells = [index[p] for p in read_answers(out).questions.positions]
    assert (classes[0] != classes[1]).sum() == result["disagreements"]
    assert (classes[0][cells] != classes[1][cells]).all()
    assert len(set(cells)) == 30
    assert len({c // 9 for c in cells}) > 9  # in most chips, not in a few
    assert list(read_dataframe(out, layer="questions").columns) == ["id", "truth", "geometry"]


def test_the_sheet_shows_each_cell_where_its_outline_is(world, answered):
    out, result = answered
    table = read_dataframe(out, layer="questions")
    scheme = Checkpoint.load(world["old"]).scheme
    rasters = PatchSource((str(world["target"]),)).rasters(scheme, 4, labelled=False)
    positions = read_answers(out).questions.positions
    with rasterio.open(result["sheet"]) as sheet:
        pixels = sheet.read()
        for (image, row, col), shape in zip(positions, table.geometry, strict=True):
            left, top = ~sheet.transform * (shape.bounds[0], shape.bounds[3])
            cell = pixels[:, round(top) : round(top) + 16, round(left) : round(left) + 16]
            chip = rasters[image].chip.read(3)[
                :, row * 16 : row * 16 + 16, col * 16 : col * 16 + 16
            ]
            np.testing.assert_array_equal(cell, chip)


def test_right_answers_keep_the_better_model_and_teach_it(world, answered, tmp_path):
    out = tmp_path / "new.model"
    done = asked(world, out, "--answers", answered[0])
    result = json.loads(done.stdout)
    assert result["decision"]["choice"] == "adapted"
    assert result["decision"]["used"] < 30  # it stopped before the last answer
    assert result["answers"] == 30
    made = Checkpoint.load(out)
    assert made.provenance["answers"]["kept_sha256"] == file_hash(world["adapted"])
    body = [k for k in made.net.state_dict() if "head" not in k]
    kept = Checkpoint.load(world["adapted"])
    assert all(torch.equal(made.net.state_dict()[k], kept.net.state_dict()[k]) for k in body)
    assert not torch.equal(made.net.base.head.weight, kept.net.base.head.weight)
    report = json.loads((tmp_path / "new.model.json").read_text())
    assert report["decision"]["choice"] == "adapted"


def test_next_questions_are_ranked_and_none_is_asked_twice(world, answered, tmp_path):
    more = tmp_path / "more.gpkg"
    result = json.loads(asked(world, more, "--answers", answered[0], "--ask", 12).stdout)
    assert (result["role"], result["questions"]) == ("learn", 12)
    first, second = (set(read_answers(p).questions.positions) for p in (answered[0], more))
    assert not first & second
    fill(more, truth_of(world, more))
    both = asked(world, tmp_path / "n.model", "--answers", answered[0], "--answers", more)
    assert json.loads(both.stdout)["answers"] == 42
    alone = asked(world, tmp_path / "m.model", "--answers", more, ok=False)
    assert "was asked after 30 other questions, 0 of which are given" in alone.stderr
    assert not (tmp_path / "m.model").exists()


def test_undecided_the_old_model_is_kept_and_more_places_are_drawn(world, questions, tmp_path):
    fill(questions, dict.fromkeys(range(4, 31)))
    text = run(*world["words"], "--adapted", world["adapted"], "--answers", questions,
               "-o", tmp_path / "n.model").stdout  # fmt: skip
    assert "do not decide yet; the old model is kept" in text
    assert "more answers are wanted" in text
    more = json.loads(asked(world, tmp_path / "q2.gpkg", "--answers", questions, "--ask", 5).stdout)
    assert more["role"] == "decide"


def test_without_an_adapted_model_one_is_made(world, tmp_path):
    out = tmp_path / "q.gpkg"
    quick = ["--steps", 1, "--threshold", 0.05, "--neighbours", 3, "--agreement", 0, "--entropy", 1]
    result = json.loads(run(*world["words"], *quick, "--ask", 5, "-o", out, "--json").stdout)
    assert result["adapted"] == str(tmp_path / "q.adapted.safetensors")
    fill(out, truth_of(world, out))
    run(*world["words"], "--answers", out, "-o", tmp_path / "new.model")
    (tmp_path / "q.adapted.safetensors").unlink()
    done = run(*world["words"], "--answers", out, "-o", tmp_path / "x.model", ok=False)
    assert "is not at" in done.stderr
    assert "--adapted" in done.stderr


def test_cells_of_a_scene_lie_on_it(world, mosaic, tmp_path):
    out = tmp_path / "q.gpkg"
    words = ["transfer", world["old"], "--source", world["words"][3], "--target", mosaic[0]]
    result = json.loads(
        run(*words, "--adapted", world["adapted"], "--ask", 8, "-o", out, "--json").stdout
    )
    table = read_dataframe(out, layer="questions")
    assert result["sheet"] is None
    assert table.crs.to_epsg() == 32631
    assert set(table.geometry.area.round()) == {(16 * 4) ** 2}
    assert len({tuple(g.bounds) for g in table.geometry}) == 8
    with rasterio.open(mosaic[0]) as scene:
        left, bottom, right, top = table.total_bounds
        assert scene.bounds.left <= left < right <= scene.bounds.right + 64
        assert scene.bounds.bottom - 64 <= bottom < top <= scene.bounds.top


# -- bad input


FAULTS = {
    "UPDATE questions SET truth = 'lake' WHERE id = 3": "no class of the model: 3: 'lake'",
    "UPDATE questions SET id = 99 WHERE id = 3": "were not asked, with the id 99",
    "UPDATE questions SET id = 4, truth = CASE truth WHEN 'water' THEN 'forest' ELSE 'water' END "
    "WHERE id = 3": "two different answers to question 4",
    "UPDATE questions SET truth = NULL": "is answered",
    "ALTER TABLE questions RENAME COLUMN truth TO t": "have no field 'truth'",
    "UPDATE gpkg_metadata SET metadata = replace(metadata, '\"role\":\"decide\"', '\"role\":7)')":
        "what",  # the metadata no longer parse
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_file_is_one_error_and_nothing_is_written(world, questions, tmp_path, fault):
    fill(questions, {4: "water"})
    with closing(sqlite3.connect(questions)) as db, db:
        db.execute(fault)
    done = asked(world, tmp_path / "n.model", "--answers", questions, ok=False)
    assert FAULTS[fault] in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["q.gpkg"]


def test_answers_of_another_model_or_target_are_refused(world, questions, tmp_path):
    words = list(world["words"])
    words[1] = world["adapted"]
    done = run(*words, "--answers", questions, "-o", tmp_path / "n.model", ok=False)
    assert "asks about another model than" in done.stderr
    words = list(world["words"])
    words[5] = words[3]
    done = run(*words, "--answers", questions, "-o", tmp_path / "n.model", ok=False)
    assert "asks about another target - give the --target, --max-samples and --seed" in done.stderr
    done = run(*world["words"], "--adapted", world["old"], "--answers", questions,
               "-o", tmp_path / "n.model", ok=False)  # fmt: skip
    assert "is not the adapted model that" in done.stderr


def test_answers_of_one_class_are_warned_of(world, questions, tmp_path, caplog):
    fill(questions, dict.fromkeys(range(1, 31), "water"))
    asked(world, tmp_path / "n.model", "--answers", questions)
    assert "all 30 answers are of one class, water" in caplog.text


def test_equal_pixels_with_two_answers_are_warned_of(world, tmp_path, caplog):
    """Two chips of the target have the same pixels in one cell."""
    scheme = Checkpoint.load(world["old"]).scheme
    rasters = PatchSource((str(world["target"]),)).rasters(scheme, 4, labelled=False)
    patches = PatchGrid.of(rasters, 16)

    from geopipe.raster import Scene  # noqa: F401

    said = Questions(
        "learn", file_hash(world["old"]), None, None, "0" * 64,
        tuple((c.name, c.color) for c in scheme.classes), 10, 0, 0, 0, "x",
        ((0, 0, 0), (1, 0, 0)), (5, 5),
    )  # fmt: skip
    write_questions(tmp_path / "q.gpkg", said, [box(0, 0, 1, 1)] * 2, None, scheme)
    fill(tmp_path / "q.gpkg", {1: "water", 2: "forest"})
    given = gathered([tmp_path / "q.gpkg"], world["old"], "0" * 64, patches)
    assert given.ids.tolist() == [4, 2]
    assert "equal pixels have different answers: questions 1 of q.gpkg and 2 of" in caplog.text


def test_answers_are_not_overwritten(world, questions):
    done = asked(world, questions, "--ask", 3, "--overwrite", ok=False)
    assert "exists already, with 30 answers" in done.stderr
    assert len(read_answers(questions).answers) == 30


def test_features_of_another_backbone_are_not_taken(world, design, scheme, tmp_path):
    """A cache that another backbone filled changes no question."""
    target = tmp_path / "target"
    shutil.copytree(world["target"] / NAMES[0], target)
    other = untrained(replace(design, sizes=(16,), weights="random:3"), scheme)
    rasters = PatchSource((str(target),)).rasters(scheme, 4, labelled=False)
    embed(other, "another", PatchGrid.of(rasters, 16), cache=tmp_path / "cache")
    words = [*world["words"][:5], target, "--adapted", world["adapted"], "--ask", 5]
    run(*words, "--cache", tmp_path / "cache", "-o", tmp_path / "q.gpkg")
    run(*words, "-o", tmp_path / "r.gpkg")
    both = [read_answers(tmp_path / name).questions for name in ("q.gpkg", "r.gpkg")]
    assert both[0] == both[1]


def test_the_options_belong_together(world, tmp_path):
    done = CliRunner().invoke(
        main, [*map(str, world["words"]), "--adapted", "a", "-o", str(tmp_path / "n")]
    )
    assert done.exit_code == 2
    assert "--adapted is for --ask and --answers" in done.stderr
    done = asked(world, tmp_path / "n.model", "--ask", 3, ok=False)
    assert "would be a GeoPackage" in done.stderr


def test_an_image_beside_the_questions_is_not_replaced(world, tmp_path):
    """The sheet of the chips' images would have its name."""
    (tmp_path / "city.tif").write_bytes(b"a scene")
    said = asked(world, tmp_path / "city.gpkg", "--ask", 30, ok=False)
    assert "city.tif exists already" in said.stderr
    assert (tmp_path / "city.tif").read_bytes() == b"a scene"
    assert not (tmp_path / "city.gpkg").exists()


def test_answers_that_do_not_serve_are_not_overwritten_either(world, questions):
    fill(questions, {1: "watr"})
    done = asked(world, questions, "--ask", 3, "--overwrite", ok=False)
    assert "exists already, with 30 answers" in done.stderr
    assert read_answers_text(questions)[1] == "watr"


def read_answers_text(path):
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT id, truth FROM questions"))


def test_the_adapted_model_of_a_run_that_was_stopped_is_named(world, tmp_path):
    (tmp_path / "q.adapted.safetensors").write_bytes(world["adapted"].read_bytes())
    done = run(*world["words"], "-o", tmp_path / "q.gpkg", "--ask", 5, ok=False)
    assert "q.adapted.safetensors exists already" in done.stderr
    assert "give it as --adapted" in done.stderr


def test_a_model_that_answers_decide_about_is_not_overwritten(world, answered, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(world["adapted"].read_bytes())
    words = ("--answers", answered[0], "--adapted", own, "-o", own, "--overwrite")
    done = run(*world["words"], *words, ok=False)
    assert "own.safetensors is what it would be made from" in done.stderr
    assert own.read_bytes() == world["adapted"].read_bytes()
