"""A step runs when, and only when, something that decides its outputs changed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from geopipe.workflow import steps
from geopipe.workflow.steps import Step, fresh_folder, run_step


@pytest.fixture
def step(tmp_path):
    """Copies ``in.txt`` to a file and into a folder, and counts how often."""
    source, copy, folder = (tmp_path / n for n in ("in.txt", "copy.txt", "folder"))
    source.write_text("one")

    def make(key):
        calls.append(key)
        copy.write_text(source.read_text())
        (fresh_folder(folder) / "a.txt").write_text(source.read_text())

    calls = []
    made = Step("make", [source], {"size": 1}, [copy, folder], make)
    object.__setattr__(made, "calls", calls)
    return made


@pytest.fixture
def run(tmp_path):
    def ran(step):
        return run_step(step, tmp_path / ".steps")[0]

    return ran


def test_a_step_runs_once(step, run):
    assert run(step)
    copy, folder = step.outputs
    before = [p.stat().st_mtime_ns for p in (copy, folder / "a.txt")]
    assert not run(step)
    assert [p.stat().st_mtime_ns for p in (copy, folder / "a.txt")] == before
    assert len(step.calls) == 1


def test_the_seconds_of_a_skipped_step_are_those_it_took(step, tmp_path):
    ran, seconds = run_step(step, tmp_path / ".steps")
    skipped, same = run_step(step, tmp_path / ".steps")
    assert (ran, skipped) == (True, False)
    assert seconds == same >= 0


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.inputs[0].write_text("two"),
        lambda s: s.inputs[0].unlink() or s.inputs[0].write_text("eno"),
        lambda s: s.outputs[0].unlink(),
        lambda s: s.outputs[0].write_text("eno"),
        lambda s: (s.outputs[1] / "a.txt").unlink(),
        lambda s: (s.outputs[1] / "a.txt").write_text(""),
        lambda s: (s.outputs[1] / "a.txt").rename(s.outputs[1] / "b.txt"),
    ],
)
def test_a_changed_file_makes_it_run_again(step, run, change):
    run(step)
    change(step)
    assert run(step)
    assert step.outputs[0].read_text() == step.inputs[0].read_text()
    assert [p.name for p in step.outputs[1].iterdir()] == ["a.txt"]
    assert not run(step)


def test_a_file_put_beside_the_outputs_is_nobodys_business(step, run):
    run(step)
    beside = step.outputs[1] / "project.qgz"
    beside.write_text("mine")
    assert not run(step)
    assert beside.read_text() == "mine"


def test_a_time_of_change_alone_does_not(step, run):
    run(step)
    for path in (step.inputs[0], step.outputs[0]):
        os.utime(path, (1, 1))
    assert not run(step)


def test_parameters_inputs_and_the_version_decide(step, run, monkeypatch, tmp_path):
    run(step)
    other = replace(step, parameters={"size": 2})
    assert run(other)
    assert not run(other)
    assert run(step), "the record is of the last run"
    assert not run(replace(step, parameters=dict(reversed(step.parameters.items()))))
    (tmp_path / "second.txt").write_text("x")
    assert run(replace(step, inputs=[*step.inputs, tmp_path / "second.txt"]))
    monkeypatch.setattr(steps, "__version__", "99")
    assert run(step)


def test_the_action_gets_the_key_that_a_resumed_training_needs(step, run):
    run(step)
    run(replace(step, parameters={"size": 2}))
    run(step)
    first, second, third = step.calls
    assert first == third != second
    assert len(first) == 64


def test_a_step_that_fails_runs_again(step, run, tmp_path):
    run(step)

    def fails(key):
        step.outputs[0].write_text("half")
        raise RuntimeError("lightning")

    with pytest.raises(RuntimeError):
        run(replace(step, parameters={"size": 2}, action=fails))
    assert not (tmp_path / ".steps" / "make.json").exists()
    assert run(step)
    assert step.outputs[0].read_text() == "one"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"key": 1}', "\xff"])
def test_a_damaged_record_counts_as_none(step, run, tmp_path, text):
    run(step)
    (tmp_path / ".steps" / "make.json").write_text(text, encoding="latin-1")
    assert run(step)
    assert not run(step)
    assert not list((tmp_path / ".steps").glob("*.part"))


def test_inputs_that_only_gdal_reads_do_not_hinder(step, run):
    far = replace(step, inputs=[Path("https://example.org/scene.tif"), Path("fetch")])
    assert run(far)
    assert not run(far)


def test_a_large_file_is_known_by_its_size_and_time(step, run, monkeypatch):
    monkeypatch.setattr(steps, "_HASHED_BYTES", 2)
    run(step)
    assert not run(step)
    os.utime(step.inputs[0], (1, 1))
    assert run(step)


def test_a_fresh_folder_is_empty(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not list(fresh_folder(tmp_path / "a").iterdir())
    assert fresh_folder(tmp_path / "new" / "deep").is_dir()


def test_an_output_that_was_not_made_counts_only_if_it_was(tmp_path, run):
    """A step that leaves an optional file out is not run again; one whose file is gone is."""
    source, always, maybe = (tmp_path / n for n in ("in.txt", "always", "maybe"))

    def make(_):
        always.touch()
        if source.read_text():
            maybe.write_text("made")

    step = Step("make", [source], {}, [always, maybe], make)
    source.write_text("")
    assert (run(step), run(step)) == (True, False)
    source.write_text("x")
    assert (run(step), run(step)) == (True, False)
    maybe.unlink()
    assert run(step)
    assert maybe.exists()
