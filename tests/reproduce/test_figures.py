"""Figures are written whole, their words apart and inside, and show what they were given."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from geopipe.classes import IGNORE, load_scheme
from geopipe.grid import Window
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from reproduce.maggiori import figures, filters
from reproduce.maggiori.figures import style

NAMES = ("background", "building", "road")
LONG = (
    "CNN+RNN",
    "CNN+RNN, class-agnostic",
    "CNN+RNN, not recurrent",
    "CNN+CRF",
    "U-Net",
    "random forest, OpenStreetMap",
    "random forest, accurate tile",
)


def metrics(right, seed=0):
    """About `right` of the pixels of each class are right."""
    rng = np.random.default_rng(seed)
    off = np.round(1000 * (1 - right) * rng.uniform(0.8, 1.2, (3, 3)))
    return Metrics(NAMES, np.where(np.eye(3), round(5000 * right), off).astype(np.int64))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, as they were when written."""
    seen = []
    save = Figure.savefig

    def keep(self, *args, **kwargs):
        seen.append(self)
        FigureCanvasAgg(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return seen


def words(figure):
    """(text, box in px) of every word that can be seen."""
    renderer = figure.canvas.get_renderer()
    hidden = set()
    for axes in figure.axes:
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            hidden |= {
                label
                for label in axis.findobj(Text)
                if not (axes.axison and low <= label.get_position()[at] <= high)
                and label is not axis.label
            }
        hidden |= set() if axes.axison else {axes.xaxis.label, axes.yaxis.label}
    return [
        (t.get_text(), t.get_window_extent(renderer))
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip() and t not in hidden
    ]


def check(figure, path, *expected):
    """`path` is a PNG of `figure` that says `expected`, nothing over another or cut off."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == tuple(int(n) for n in figure.canvas.get_width_height())
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    found = words(figure)
    assert set(expected) <= {text for text, _ in found}
    width, height = figure.canvas.get_width_height()
    for text, box in found:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (a, one), (b, other) in itertools.combinations(found, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 1 or down <= 1, f"{a!r} lies over {b!r}"
    assert not list(path.parent.glob("*.part"))


def test_the_curves_go_beyond_what_was_trained(tmp_path, drawn):
    methods = {
        name: [[metrics(0.6 + 0.03 * t, s + i) for t in range(length)] for s in range(3)]
        for i, (name, length) in enumerate(zip(LONG, (11, 6, 6, 1, 1, 1, 1), strict=True))
    }
    figures.over_iterations(tmp_path / "a.png", methods)
    check(drawn[0], tmp_path / "a.png", *LONG, "mean IoU, %", "overall accuracy, %", "iterations")
    mean, overall = drawn[0].axes
    for axes, of in ((mean, "mean_iou"), (overall, "overall_accuracy")):
        for line, runs in zip(axes.lines, methods.values(), strict=False):
            expected = np.mean([[100 * getattr(m, of) for m in run] for run in runs], axis=0)
            assert np.allclose(line.get_ydata(), expected)
    # A level line reaches as far as the longest curve.
    assert mean.lines[3].get_xdata().tolist() == [0, 10]
    assert mean.lines[len(LONG)].get_xdata() == [5, 5]


def test_a_training_is_not_marked_where_nothing_goes_beyond_it(tmp_path, drawn):
    figures.over_iterations(tmp_path / "a.png", {"CNN+RNN": [[metrics(0.7)] * 6]})
    check(drawn[0], tmp_path / "a.png", "CNN+RNN")
    assert len(drawn[0].axes[0].lines) == 1


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_bars_are_as_high_as_the_figures(tmp_path, drawn, count):
    methods = {name: [metrics(0.8, s + i) for s in range(3)] for i, name in enumerate(LONG[:count])}
    figures.class_bars(tmp_path / "e.png", methods)
    check(drawn[0], tmp_path / "e.png", "mean", *NAMES, *LONG[:count])
    heights = [bar.get_height() for bar in drawn[0].axes[0].patches]
    first = [100 * np.mean([m.mean_iou for m in methods[LONG[0]]])]
    first += [100 * np.mean([m.iou[k] for m in methods[LONG[0]]]) for k in range(3)]
    assert np.allclose(heights[:4], first)
    assert len(heights) == 4 * count


def test_a_class_that_is_nowhere_has_no_bar_and_stops_nothing(tmp_path, drawn):
    empty = Metrics(NAMES, np.diag([5, 5, 0]))
    figures.class_bars(tmp_path / "e.png", {"a": [empty, empty]})
    check(drawn[0], tmp_path / "e.png", "100", "road")


@pytest.fixture
def place():
    """An image and maps of it with all classes and pixels without one."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (96, 96), np.uint8)
    ids[:10, :10] = IGNORE
    image = rng.integers(0, 255, (96, 96, 3), np.uint8)
    return lambda names: figures.Place(image, tuple((name, ids) for name in names))


@pytest.mark.parametrize("count", [2, 7])
def test_maps_and_close_ups(tmp_path, drawn, place, count):
    scheme, names = load_scheme("buildings-roads"), ("truth", *LONG[: count - 1])
    notes = {"CNN+RNN": "mean IoU 80.1 ± 0.4 %"}
    figures.full_maps(tmp_path / "c.png", place(names), scheme, notes)
    check(drawn[0], tmp_path / "c.png", *scheme.names)
    figures.close_ups(tmp_path / "d.png", [place(names)] * 2, scheme)
    check(drawn[1], tmp_path / "d.png", "image", "truth", *scheme.names)
    pixels = drawn[1].axes[1].images[0].get_array()
    assert pixels[0, 0].tolist() == [255] * 3
    assert {tuple(p) for p in pixels[20:].reshape(-1, 3).tolist()} == {
        c.rgb for c in scheme.classes
    }


def test_large_maps_are_averaged_not_thinned():
    """A line one pixel wide in a large map does not vanish."""
    pixels = np.zeros((2000, 1800, 3), np.uint8)
    pixels[:, 701] = 240
    small = style.smaller(pixels, 500)
    assert small.shape == (500, 450, 3)
    assert (small.max(1) == 60).all()


@pytest.fixture
def trained(make_model, make_raster):
    """A model with three iterations, a scene at 1 m, and its truth."""
    rng = np.random.default_rng(0)
    scene = Scene.open(make_raster(rng.integers(0, 255, (3, 128, 128), np.uint8)))
    truth = make_raster(rng.integers(0, 3, (1, 128, 128), np.uint8), "ids.tif", nodata=IGNORE)
    return make_model(iterations=3), scene, truth


def test_fuzzy_maps_show_probabilities_after_every_iteration(tmp_path, drawn, trained):
    model, scene, truth = trained
    window = Window(16, 16, 64, 64)
    rows = figures.fuzzy_rows(model, scene, truth, [(window, n) for n in NAMES])
    assert np.allclose(sum(np.stack(row.steps) for row in rows), 1, atol=1e-5)
    assert all(len(row.steps) == 4 for row in rows)
    assert np.array_equal(sum(row.truth.astype(int) for row in rows), np.ones((64, 64)))
    figures.fuzzy_maps(tmp_path / "b.png", rows[1:])
    check(drawn[0], tmp_path / "b.png", "image", "t = 0 (CNN)", "t = 3", "truth", "probability")


def test_a_place_is_read_from_files(trained):
    model, scene, truth = trained
    window = Window(100, 100, 40, 40)  # sticks out
    read = figures.read_place(scene, window, {"truth": truth}, model.scheme)
    assert read.image.shape == (40, 40, 3)
    ((name, ids),) = read.maps
    assert name == "truth"
    assert (ids[28:] == IGNORE).all()
    assert (ids[:28, :28] < 3).all()


def test_filters_and_their_responses(tmp_path, drawn, trained):
    model, scene, _ = trained
    listed = filters.list_filters(
        model.net.postprocessor, filters.net_scores(model, scene, Window(0, 0, 128, 128))[1][1:]
    )
    figures.kernels(tmp_path / "k.png", model.net.postprocessor, listed)
    check(drawn[0], tmp_path / "k.png")
    like = sum(np.mean(f.responses) >= filters.LIKE for f in listed)
    frames = [p for axes in drawn[0].axes for p in axes.patches]
    assert len(frames) == like
    shown = figures.respond(model, scene, Window(16, 16, 80, 96))
    assert [name for name, _, _ in shown.scores] == ["building", "road"]
    assert shown.scores[0][1].shape == shown.image.shape[:2]
    figures.responses(tmp_path / "r.png", shown)
    check(drawn[1], tmp_path / "r.png", "building", "road", "image (1 m)")


def test_the_green_filter_is_found(trained):
    model, scene, _ = trained
    n = model.net.postprocessor.updates[0].n
    n[13] = 0
    n[13, :, 2, 2] = n.new_tensor([-1.0, 2.0, -1.0])
    shown = figures.respond(model, scene, Window(16, 16, 80, 96))
    assert shown.on_image[1].title.startswith("$N_{14}$, green (r = 1.00)")


def test_equal_data_equal_bytes(tmp_path):
    made = []
    for name in ("a.png", "b.png"):
        figures.class_bars(tmp_path / name, {"a": [metrics(0.8)]})
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_a_figure_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), style.drawing(path, 2, 2):
        raise ZeroDivisionError
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with style.drawing(path, 2, 2) as figure:
        figure.add_subplot()
    assert Image.open(io.BytesIO(path.read_bytes())).size == (300, 300)
