"""Signatures of result files, and the keys that make them."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_helpers import ANOTHER, KEY, Calls, forged, framed, old_format, untrusted
from xxhash import xxh3_128_digest

from functionfuse.errors import OptionError
from functionfuse.storage.file_format.file_format import header_size, unframe
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    from pathlib import Path


def test_a_payload_would_leave_a_trace(trace: Path) -> None:
    """Without a key it is run: the tests below would notice."""
    unframe(framed(Calls(os.mkdir, str(trace)), key=KEY), "w", "node")
    assert trace.exists()


def test_a_signed_result_is_read_with_its_key() -> None:
    """And without one, like any other."""
    data = framed([1, np.arange(2_000)], key=KEY)
    for key in (KEY, None):
        one, array = unframe(data, "w", "node", key=key)
        assert (1, 2_000) == (one, len(array))


def test_an_unsigned_result_is_refused(trace: Path) -> None:
    """A reader with a key accepts nothing else."""
    untrusted(framed(Calls(os.mkdir, str(trace))), trace, "it is not signed", key=KEY)


def test_a_result_of_the_old_format_is_refused(trace: Path) -> None:
    """Results of the legacy format have no signature, and are refused with a key."""
    data = old_format(Calls(os.mkdir, str(trace)))
    untrusted(data, trace, "legacy format, which has no signature", key=KEY)


def test_a_result_of_another_key_is_refused(trace: Path) -> None:
    """The error says which key was used for reading."""
    data = framed(Calls(os.mkdir, str(trace)), key=ANOTHER)
    untrusted(data, trace, "not that of a test for this workflow and node", key=KEY)


@pytest.mark.parametrize(
    ("workflow", "node"),
    [("w", "other"), ("other", "node"), ("wn", "ode"), ("", "wnode"), ("node", "w")],
)
def test_a_swapped_result_is_refused(trace: Path, workflow: str, node: str) -> None:
    """A result is one of its workflow and node, whatever the file is called."""
    data = framed(Calls(os.mkdir, str(trace)), workflow, node, key=KEY)
    untrusted(data, trace, "belongs to another node", key=KEY)


@settings(deadline=None)
@given(*[st.text(max_size=5)] * 4)
def test_names_are_distinct(workflow: str, node: str, other: str, another: str) -> None:
    """No two pairs of names share a signature."""
    same = KEY.sign(3, workflow, node, b"") == KEY.sign(3, other, another, b"")
    assert same == ((workflow, node) == (other, another))


def test_a_name_may_be_any_string() -> None:
    """Also a name that is not valid Unicode."""
    data = framed(1, "\ud800", "x" * 100_000, key=KEY)
    assert 1 == unframe(data, "\ud800", "x" * 100_000, key=KEY)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"harmless", b"dreadful"), (b'"node":"node"', b'"node":"nood"')],
    ids=["contents", "header"],
)
def test_a_forged_result_is_refused(trace: Path, old: bytes, new: bytes) -> None:
    """An attacker can correct the digests of an altered file, but not its signature."""
    data = forged(framed([Calls(os.mkdir, str(trace)), "harmless"], key=KEY), old, new)
    untrusted(data, trace, "it was altered", key=KEY)


def test_a_forged_result_has_right_digests() -> None:
    """Without the key it is an intact result: the signature detected it."""
    data = forged(framed("harmless", key=KEY), b"harmless", b"dreadful")
    assert "dreadful" == unframe(data, "w", "node")


def test_a_signature_cannot_be_removed_or_added(trace: Path) -> None:
    """A file with the signature of another one, or with none, is refused."""
    payload = framed(Calls(os.mkdir, str(trace)))
    harmless = framed("harmless", key=KEY)
    size = header_size(bytes(payload))
    payload[32:64] = harmless[32:64]
    payload[16:32] = xxh3_128_digest(payload[:16] + payload[32:size])
    untrusted(payload, trace, "it was altered", key=KEY)


def test_a_key_is_read_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same secret is the same key wherever it is kept; a line break at its end is not in it."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("0123456789abcdef\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    keys = [
        SigningKey.load(source)
        for source in ("env:KEY_OF_TESTS", "file:key", f"file:{tmp_path}/key")
    ]
    assert {KEY.sign(3, "w", "n", b"x")} == {key.sign(3, "w", "n", b"x") for key in keys}
    assert f"file:{tmp_path}/key" == keys[1].source


def test_a_key_is_never_shown_and_is_pickled_by_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its repr nor its pickle has the secret; the other process reads it itself."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    key = SigningKey.load("env:KEY_OF_TESTS")
    travelling = pickle.dumps(key)
    assert "SigningKey('env:KEY_OF_TESTS')" == repr(key) == str(key)
    assert b"0123456789abcdef" not in travelling
    monkeypatch.setenv("KEY_OF_TESTS", "fedcba9876543210")
    assert ANOTHER.sign(3, "w", "n", b"") == pickle.loads(travelling).sign(3, "w", "n", b"")
    monkeypatch.delenv("KEY_OF_TESTS")
    with pytest.raises(OptionError, match="'KEY_OF_TESTS' of the signing key is not set in this"):
        pickle.loads(travelling)


@pytest.mark.parametrize(
    "source",
    ["", "env:", "file:", "0123456789abcdef", "environment:X", b"env:X", None, 7],
)
def test_a_key_itself_is_refused_without_showing_it(source: Any) -> None:
    """A secret that is given in place of its source does not get into a log."""
    with pytest.raises(OptionError, match=r"'env:NAME' or 'file:PATH'") as caught:
        SigningKey.load(source)
    assert "0123456789abcdef" not in str(caught.value)


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    """A short key could be guessed; the error says how to create one, without the key."""
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("fifteen bytes..\n", encoding="ascii")
    with pytest.raises(OptionError, match=r"has 15 bytes and needs at least 16: make") as caught:
        SigningKey.load(f"file:{tmp_path}/key")
    assert "fifteen" not in str(caught.value)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(OptionError, match=r"cannot be read from '.*/nothing': No such file"):
        SigningKey.load(f"file:{tmp_path}/nothing")
