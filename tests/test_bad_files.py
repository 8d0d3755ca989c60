"""Files of models and answers, damaged on purpose: an error of ours, or the truth. Nothing else, and nothing slow.

Structured damage (one entry of the JSON, one number of an array exchanged for junk) goes deeper than flipped bytes,
which test_interop.py and test_answers.py throw at the same readers.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile

import numpy as np
import pytest

import occlp as oc

MACHINE = oc.instances.get("machine-repair")
UNDISCOUNTED = MACHINE.replace(discount=None)
QUESTIONS = {
    "plain": oc.Problem(MACHINE),
    "limits": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.25]),
    "KL": oc.Problem(MACHINE, regularizer=oc.KL(1.0, oc.Policy.uniform(MACHINE))),
    "entropy": oc.Problem(MACHINE, utility=oc.StateEntropy()),
    "average": oc.Problem(UNDISCOUNTED, criterion="average"),
    "total": oc.Problem(UNDISCOUNTED, criterion="total", goal="broken"),
}
JUNK = [
    None, True, 0, -1, 1e308, -1e308, float("nan"), float("inf"), "", "wear", "1/0", "9" * 5000, [], {}, [[]], {"a": 1},
    10**400, 2**63, -0.0, 1e-320, [1] * 7,
]  # fmt: skip


def places(content, at=()):
    """Every place in a JSON value; of long lists the first few."""
    yield at
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*at, key))
    elif isinstance(content, list):
        for n, value in enumerate(content[:6]):
            yield from places(value, (*at, n))


def damaged(rng, content):
    """A copy with one entry exchanged for junk, or taken out."""
    content = json.loads(json.dumps(content))
    listed = [place for place in places(content) if place]
    *outer, last = listed[rng.integers(len(listed))]
    inner = content
    for key in outer:
        inner = inner[key]
    if rng.random() < 0.1:
        del inner[last]
    else:
        inner[last] = JUNK[rng.integers(len(JUNK))]
    return content


@pytest.fixture(autouse=True)
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("kind", QUESTIONS)
def test_answers_with_one_entry_exchanged(kind, tmp_path):
    problem, path = QUESTIONS[kind], tmp_path / "answer.json"
    result = oc.solve(problem, check=False)
    oc.save_answer(problem, result, path)
    content, rng = json.loads(path.read_text()), np.random.default_rng(7)
    counts = {"refused": 0, "audited": 0, "true": 0}
    for _ in range(150):
        path.write_text(json.dumps(damaged(rng, content)))
        try:
            answer = oc.load_answer(path)
        except oc.InvalidProblem:
            counts["refused"] += 1
            continue
        try:
            answer.verify()
        except oc.AuditFailed:
            counts["audited"] += 1
            continue
        counts["true"] += 1
        if answer.problem.fingerprint == problem.fingerprint and np.isfinite(result.objective):
            low, high = sorted((answer.certificate.lower, answer.certificate.upper))
            assert low - 1e-9 <= result.objective <= high + 1e-9
    assert counts["refused"] > 30
    assert counts["refused"] + counts["audited"] > 60


@pytest.mark.parametrize("kind", QUESTIONS)
def test_certificates_with_one_entry_exchanged(kind):
    content = json.loads(oc.solve(QUESTIONS[kind], check=False).certificate.to_json())
    rng, refused = np.random.default_rng(8), 0
    for _ in range(150):
        try:
            read = oc.Certificate.from_json(json.dumps(damaged(rng, content)))
        except ValueError:
            refused += 1
        else:
            assert all(array.dtype == np.float64 for array in (read.values, read.dual, read.gain_values))
            assert isinstance(read.gap, float)
    assert refused > 50


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def as_array(values):
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def test_models_with_one_part_exchanged(tmp_path):
    path = tmp_path / "model.npz"
    oc.interop.save(MACHINE, path)
    parts, rng, refused = members(path), np.random.default_rng(9), 0
    header = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())
    names = [name for name in parts if name != "header.npy"]
    for n in range(300):
        changed, name = dict(parts), names[rng.integers(len(names))]
        if n % 3 == 0:
            text = json.dumps(damaged(rng, header)).encode()
            changed["header.npy"] = as_array(np.frombuffer(text, dtype=np.uint8))
        elif n % 3 == 1:
            numbers = np.load(io.BytesIO(parts[name])).copy()
            odd = [np.nan, np.inf, -1.0, 1e308, 5.0, 0.0] if numbers.dtype.kind == "f" else [0, 1, 99, 120]
            numbers[rng.integers(numbers.size)] = odd[rng.integers(len(odd))]
            changed[name] = as_array(numbers)
        elif rng.random() < 0.5:
            del changed[name]
        else:
            raw = bytearray(parts[name])
            raw[rng.integers(len(raw))] = rng.integers(256)
            changed[name] = bytes(raw)
        write(path, changed)
        try:
            mdp = oc.interop.load(path)
        except oc.InvalidModel:
            refused += 1
        else:  # other numbers, but a model
            assert np.abs(mdp.transitions.sum(axis=1) - 1).max() <= 1e-9
            assert np.isfinite(mdp.pair_rewards).all()
    assert refused > 150


class Alarm:
    """What unpickling would set off."""

    def __reduce__(self):
        return pytest.fail, ("an array was unpickled",)


def test_nothing_is_unpickled_inflated_or_written_elsewhere(tmp_path):
    path = tmp_path / "inside" / "model.npz"
    path.parent.mkdir()
    oc.interop.save(MACHINE, path)
    parts = members(path)
    write(path, parts | {"rewards.npy": as_array(np.array([Alarm()], dtype=object))})
    with pytest.raises(oc.InvalidModel, match="rewards"):
        oc.interop.load(path)
    write(path, parts | {"../evil.npy": b"x", "/evil.npy": b"x", "C:\\evil.npy": b"x"})
    assert oc.interop.load(path).n_pairs == MACHINE.n_pairs  # names that nobody asks for are not looked at
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["model.npz"]
    bomb = as_array(np.zeros(2_000_000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts | {"data.npy": bomb}).items():
            archive.writestr(name, content)
    assert path.stat().st_size < len(bomb) / 500
    with pytest.raises(oc.InvalidModel, match="compressed"):
        oc.interop.load(path)


def test_arrays_that_claim_more_than_there_is(tmp_path):
    """A header of numpy, or the directory of the archive, may claim any size: no memory is spent on it."""
    path = tmp_path / "model.npz"
    oc.interop.save(MACHINE, path)
    parts, stream = members(path), io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    for shape in (stream.getvalue(), stream.getvalue().replace(b"<f8", b"|O8"), stream.getvalue()[:20]):
        write(path, parts | {"data.npy": shape})
        with pytest.raises(oc.InvalidModel, match=r"data|header"):
            oc.interop.load(path)
    write(path, parts)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # the last of the directory: compressed and plain size at 20 and 24
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    path.write_bytes(content)
    with pytest.raises(oc.InvalidModel, match="claim"):
        oc.interop.load(path)


def test_arrays_that_lie_upon_each_other(tmp_path):
    """A thousand names for one stretch of bytes, as in bombs that need no compression, and one name for two."""
    path = tmp_path / "model.npz"
    oc.interop.save(MACHINE, path)
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("data.npy")
        for n in range(1000):
            twin = zipfile.ZipInfo(f"cost_{n + 1}.npy")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type", "create_version",
                         "extract_version", "flag_bits", "external_attr"):  # fmt: skip
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(oc.InvalidModel, match="claim"):
        oc.interop.load(path)
    oc.interop.save(MACHINE, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("rewards.npy", as_array(MACHINE.pair_rewards + 1))
    with pytest.raises(oc.InvalidModel, match="one name"):
        oc.interop.load(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": "occlp-certificate", "format": "occlp-certificate"}', '{"a": {"b": 1, "b": 2}}', "[" * 100_000,
        '{"a":' * 50_000, "", "nul", "\x00", '{"a": 1}}', '"\ud800"', "9" * 5000, "1e999",
    ],
)  # fmt: skip
def test_json_that_is_none_or_says_two_things(text, tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(oc.InvalidProblem, match="cannot be read as an answer"):
        oc.load_answer(path)
    with pytest.raises(ValueError):  # noqa: PT011 (whatever it says)
        oc.Certificate.from_json(text)
    model = tmp_path / "model.npz"
    oc.interop.save(MACHINE, model)
    header = np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8)
    write(model, members(model) | {"header.npy": as_array(header)})
    with pytest.raises(oc.InvalidModel):
        oc.interop.load(model)


def test_a_name_that_stands_twice_in_an_answer(tmp_path):
    """Another reader might believe the first of two claims."""
    path, problem = tmp_path / "answer.json", oc.Problem(MACHINE)
    oc.save_answer(problem, oc.solve(problem), path)
    text = path.read_text()
    assert oc.load_answer(path).verify()
    path.write_text(text.replace('"gap":', '"gap": 0.0, "gap":'))
    with pytest.raises(oc.InvalidProblem, match="twice"):
        oc.load_answer(path)


@pytest.mark.parametrize("goal", [[-1], [3], [0.5], [True], ["broken"], [[0]], [None]])
def test_goals_of_an_answer_are_positions_of_states(goal, tmp_path):
    path, problem = tmp_path / "answer.json", QUESTIONS["total"]
    oc.save_answer(problem, oc.solve(problem, check=False), path)
    content = json.loads(path.read_text())
    content["question"]["goal"] = goal
    path.write_text(json.dumps(content))
    with pytest.raises(oc.InvalidProblem, match="goal"):
        oc.load_answer(path)


def test_labels_of_a_file_may_be_nested_but_not_for_ever(tmp_path):
    path = tmp_path / "model.npz"
    oc.interop.save(MACHINE, path)
    parts = members(path)
    header = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())
    deep = "x"
    for _ in range(300):
        deep = [deep]
    for label in (deep, float("nan"), {"a": 1}, [{}], 10**400):
        text = json.dumps(header | {"states": [label, "worn", "broken"]}).encode()
        write(path, parts | {"header.npy": as_array(np.frombuffer(text, dtype=np.uint8))})
        try:
            mdp = oc.interop.load(path)
        except oc.InvalidModel:
            continue
        assert mdp.n_states == 3
        assert repr(oc.solve(mdp).policy)
