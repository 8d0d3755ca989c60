"""Files are whole or not there: the writer is killed, interrupted and out of space at each step."""

import os
import stat
import subprocess
import sys

import pytest

import occlp as oc
from occlp.storage import replacing

#: A writer that dies, without any cleaning up, when it comes to a step.
DYING = """
import os, signal, sys
from occlp import storage

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

step, path = sys.argv[1:]
if step != "write":
    setattr(os, step, die)
with storage.replacing(path) as stream:
    stream.write(b"new" * 100_000)
    if step == "write":
        die()
"""
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals, links and permission bits of POSIX")


@POSIX
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path, step):
    path = tmp_path / "answer.json"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", DYING, step, str(path)], capture_output=True, check=False)
    assert done.returncode < 0, done.stderr
    assert path.read_bytes() == b"old"
    with replacing(path) as stream:  # what the dead one left behind is in nobody's way
        stream.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_answers_and_models_that_are_interrupted(tmp_path, monkeypatch, step, error):
    mdp = oc.instances.get("howard-toymaker")
    result = oc.solve(mdp)
    oc.save_answer(mdp, result, tmp_path / "answer.json")
    oc.interop.save(mdp, tmp_path / "model.npz")

    def interrupted(*arguments):
        raise error

    monkeypatch.setattr(os, step, interrupted)
    for write in (
        lambda: oc.save_answer(mdp, result, tmp_path / "answer.json"),
        lambda: oc.interop.save(mdp, tmp_path / "model.npz"),
    ):
        with pytest.raises(error):
            write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "model.npz"]
    assert oc.load_answer(tmp_path / "answer.json").verify()
    assert oc.interop.load(tmp_path / "model.npz").n_states == 2


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def half():
        with replacing(tmp_path / "new") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    with replacing(path) as stream:
        stream.write(b"first")
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    link.symlink_to(path)
    with replacing(link) as stream:
        stream.write(b"second")
    assert link.is_symlink()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"second", 0o640)


@POSIX
def test_what_is_no_file_is_written_to(tmp_path):
    reader, writer = os.pipe()
    try:
        with replacing(f"/dev/fd/{writer}") as stream:
            stream.write(b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(OSError, match="directory"), replacing(tmp_path) as stream:
        stream.write(b"no")
    with pytest.raises(OSError, match="No such"), replacing(tmp_path / "nowhere" / "file") as stream:
        stream.write(b"no")
