"""Models in files: one .npz of plain arrays with a header in JSON, every number checked again on load.

A file holds uncompressed arrays (so that no small file can ask for much memory), none of them pickled:
``start``, ``actions``, ``indptr``, ``indices``, ``data``, ``rewards``, ``initial``, ``cost_0``, ... in the
order of the names in ``header``, and ``exact`` for models written in fractions.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tokenize
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model.exact import ExactNumbers
from occlp.model.mdp import MDP
from occlp.plain import plain_fraction, read_json, written
from occlp.storage import replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Sequence

    from occlp._typing import AnyArray

FORMAT = "occlp-mdp"
#: Raised when older versions of the library could not read what is written.
VERSION = 1

#: What zipfile, json and numpy raise for bytes that are not what they seem.
_DAMAGE = (
    zipfile.BadZipFile, tokenize.TokenError, SyntaxError, LookupError, ValueError, TypeError, ArithmeticError,
    OSError, EOFError, RuntimeError,
)  # fmt: skip


def save(mdp: MDP, path: str | os.PathLike[str]) -> None:
    """Write a model to a file that `load` reads; an existing file is replaced once the new one is complete.

    Parameters
    ----------
    mdp : MDP
        Labels may be strings, numbers, booleans, None and (nested) tuples of these.
    path : path
        Usually ends in ``.npz``.

    Raises
    ------
    InvalidModel
        For labels of other types.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from occlp import instances, interop
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     interop.save(instances.get("howard-taxicab"), pathlib.Path(folder, "taxicab.npz"))
    ...     interop.load(pathlib.Path(folder, "taxicab.npz"))
    MDP(3 states, 3 actions, 8 pairs, 23 transitions, discount=0.9)
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "n_states": mdp.n_states,
        "n_actions": mdp.n_actions,
        "n_pairs": mdp.n_pairs,
        "n_transitions": int(mdp.transitions.nnz),
        "states": _encode_labels(mdp.pairs.state_labels, "state"),
        "actions": _encode_labels(mdp.pairs.action_labels, "action"),
        "discount": mdp.discount,
        "costs": list(mdp.pair_costs),
        "notes": list(mdp.notes),
        "exact": mdp.exact is not None,
    }
    arrays: dict[str, Any] = {"header": _encode_json(header)}
    if mdp.exact is not None:
        arrays["exact"] = _encode_json(_encode_exact(mdp.exact))
    arrays |= {
        "start": mdp.pairs.start, "actions": mdp.pairs.actions,
        "indptr": mdp.transitions.indptr, "indices": mdp.transitions.indices, "data": mdp.transitions.data,
        "rewards": mdp.pair_rewards, "initial": mdp.initial,
    }  # fmt: skip
    arrays |= {f"cost_{i}": cost for i, cost in enumerate(mdp.pair_costs.values())}
    with replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def load(path: str | os.PathLike[str]) -> MDP:
    """Read a model that `save` wrote, and check it as any other input.

    Raises
    ------
    InvalidModel
        For files that are damaged, foreign or of a newer version, and for numbers that form no model.
    OSError
        When there is no such file, or it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                _check_archive(archive, path.stat().st_size)
                header = _decode_json(archive, "header")
                _check_header(header)
                mdp = _rebuild(archive, header)
                return _attach_exact(archive, mdp, header["notes"]) if header["exact"] else mdp
        except InvalidModel as error:
            raise InvalidModel(f"{path}: {error}") from None
        except _DAMAGE as error:
            raise InvalidModel(
                f"{path} is damaged, or no model that occlp.interop.save wrote ({type(error).__name__}: {error})."
            ) from error


def _encode_labels(labels: Sequence[Hashable] | None, what: str) -> list[Any] | None:
    return None if labels is None else [_encode_label(label, what) for label in labels]


def _encode_label(label: Any, what: str) -> Any:
    """Write a label in JSON's types; tuples become lists, which are no labels, so that this can be undone."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, tuple):
        return [_encode_label(part, what) for part in label]
    if label is None or isinstance(label, bool):
        return label
    for kind in (str, int, float):
        if isinstance(label, kind) and label == label and label not in (np.inf, -np.inf):
            return kind.__str__(label) if kind is str else kind(label)
    raise InvalidModel(
        f"the {what} label {label!r} cannot be written to a file. Use strings, finite numbers, booleans, None or "
        "tuples of these."
    )


def _decode_labels(value: Any) -> tuple[Hashable, ...] | None:
    def decode(label: Any) -> Any:
        if isinstance(label, dict):
            raise InvalidModel(f"the file is damaged: {label!r} is not a label.")
        return tuple(map(decode, label)) if isinstance(label, list) else label

    return None if value is None else tuple(map(decode, value))


def _encode_json(content: Any) -> AnyArray:
    return np.frombuffer(json.dumps(content, allow_nan=False).encode(), dtype=np.uint8)


def _decode_json(archive: zipfile.ZipFile, name: str) -> Any:
    content = read_json(_read_array(archive, name, np.uint8, None).tobytes())
    if not isinstance(content, dict):
        raise InvalidModel(f"the file is damaged: its {name} is not a table.")
    return content


def _encode_exact(exact: ExactNumbers) -> dict[str, Any]:
    def write(numbers: Sequence[Fraction]) -> list[str]:
        return [written(number) for number in numbers]

    return {
        "transitions": write(exact.transitions),
        "rewards": write(exact.rewards),
        "initial": write(exact.initial),
        "discount": None if exact.discount is None else write([exact.discount])[0],
        "costs": {name: write(numbers) for name, numbers in exact.costs.items()},
    }


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse archives whose members overlap, which would ask for more memory than the file has bytes, or are twins."""
    members = archive.infolist()
    stored = sum(member.file_size for member in members if member.compress_type == zipfile.ZIP_STORED)
    if stored > size:
        raise InvalidModel(f"its arrays claim {stored} bytes, and the file has {size}.")
    if len({member.filename for member in members}) < len(members):
        raise InvalidModel("two of its arrays have one name.")


def _check_header(header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise InvalidModel(f"its header does not say {FORMAT!r}: another program wrote it.")
    version = header.get("version")
    if not isinstance(version, int) or version < 1:
        raise InvalidModel(f"its version is {version!r}, not a number.")
    if version > VERSION:
        raise InvalidModel(
            f"it is of version {version} of the format; this occlp reads up to {VERSION}. Install a newer occlp."
        )
    sizes = [header.get(key) for key in ("n_states", "n_actions", "n_pairs", "n_transitions")]
    if not all(type(size) is int and 0 < size < 2**31 for size in sizes):
        raise InvalidModel(f"the file is damaged: sizes {sizes} are not those of a model.")
    for key in ("costs", "notes"):
        if not isinstance(header.get(key), list) or not all(isinstance(text, str) for text in header[key]):
            raise InvalidModel(f"the file is damaged: {key} in its header are not a list of strings.")
    plain = type(header.get("exact")) is bool and isinstance(header.get("discount"), int | float | None)
    if len(set(header["costs"])) < len(header["costs"]) or not plain:
        raise InvalidModel("the file is damaged: its header contradicts itself.")


def _read_array(archive: zipfile.ZipFile, name: str, dtype: Any, length: int | None) -> AnyArray:
    """One array of the file, of the type and length expected, before any memory is spent on another size."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise InvalidModel(f"its array {name!r} is compressed, which occlp.interop.save never does.")
    raw = archive.read(member)  # checks the checksum
    stream = io.BytesIO(raw)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise InvalidModel(f"the file is damaged: the array {name!r} is of another format.")
    shape, _, found = np.lib.format.read_array_header_1_0(stream)
    body = memoryview(raw)[stream.tell() :]
    wanted = (len(body),) if length is None else (length,)
    if found.newbyteorder("=") != np.dtype(dtype) or shape != wanted or len(body) != wanted[0] * found.itemsize:
        raise InvalidModel(f"the file is damaged: the array {name!r} is {found} {list(shape)}, not {list(wanted)}.")
    return np.frombuffer(body, dtype=found).astype(dtype)


def _rebuild(archive: zipfile.ZipFile, header: dict[str, Any]) -> MDP:
    n_states, n_actions = header["n_states"], header["n_actions"]
    n_pairs, n_transitions = header["n_pairs"], header["n_transitions"]
    start = _read_array(archive, "start", np.int32, n_states + 1)
    actions = _read_array(archive, "actions", np.int32, n_pairs)
    indptr = _read_array(archive, "indptr", np.int32, n_pairs + 1)
    indices = _read_array(archive, "indices", np.int32, n_transitions)
    _check_index(start, n_pairs, "start")
    _check_index(indptr, n_transitions, "indptr")
    if indices.min() < 0 or indices.max() >= n_states or actions.min() < 0 or actions.max() >= n_actions:
        raise InvalidModel("the file is damaged: a state or an action is out of range.")
    data = _read_array(archive, "data", np.float64, n_transitions)
    states, names = _decode_labels(header["states"]), _decode_labels(header["actions"])
    pair_states: Any = np.repeat(np.arange(n_states), np.diff(start))
    mdp = MDP.from_pairs(
        # Labels that are numbers would be taken for positions, so positions go in as labels.
        pair_states if states is None else [states[s] for s in pair_states],
        actions if names is None else [names[a] for a in actions],
        sparse.csr_array((data, indices, indptr), shape=(n_pairs, n_states)),
        _read_array(archive, "rewards", np.float64, n_pairs),
        discount=header["discount"],
        initial=_read_array(archive, "initial", np.float64, n_states),
        costs={name: _read_array(archive, f"cost_{i}", np.float64, n_pairs) for i, name in enumerate(header["costs"])},
        states=states,
        actions=range(n_actions) if names is None else names,
    )
    pairs = mdp.pairs if names is not None else dataclasses.replace(mdp.pairs, action_labels=None)
    return dataclasses.replace(mdp, pairs=pairs, notes=tuple(dict.fromkeys((*header["notes"], *mdp.notes))))


def _check_index(index: AnyArray, last: int, name: str) -> None:
    if index[0] != 0 or index[-1] != last or (np.diff(index) < 0).any():
        raise InvalidModel(f"the file is damaged: the array {name!r} does not count up from 0 to {last}.")


def _attach_exact(archive: zipfile.ZipFile, mdp: MDP, notes: list[str]) -> MDP:
    """Put the fractions back, each of which must round to the double beside it."""
    stored = _decode_json(archive, "exact")

    def read(texts: Any, twins: AnyArray) -> tuple[Fraction, ...]:
        numbers = tuple(plain_fraction(text, "an exact number") for text in texts)
        if not np.array_equal(np.array([float(number) for number in numbers]), twins):
            raise InvalidModel("the file is damaged: its exact numbers differ from its doubles.")
        return numbers

    gamma = np.array([] if mdp.discount is None else [mdp.discount])
    discount = read([stored["discount"]] if len(gamma) else [], gamma)
    if set(stored["costs"]) != set(mdp.pair_costs):
        raise InvalidModel("the file is damaged: its exact costs have other names.")
    exact = ExactNumbers(
        transitions=read(stored["transitions"], mdp.transitions.data),
        rewards=read(stored["rewards"], mdp.pair_rewards),
        initial=read(stored["initial"], mdp.initial),
        discount=discount[0] if discount else None,
        costs={name: read(stored["costs"][name], cost) for name, cost in mdp.pair_costs.items()},
    )
    # Rows of doubles that miss 1 by a rounding are no news where the fractions sum to 1.
    return dataclasses.replace(mdp, exact=exact, notes=tuple(notes))
