"""Real recordings: every set is recognised by itself and nothing of it is rejected."""

import hashlib
import os
from pathlib import Path

import pytest

from voxmake.sources import Source, fetch, files_of, read_source

DATA = Path(os.environ.get("VOXMAKE_TEST_DATA") or Path(__file__).parents[2].parent / "shared/data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real recordings: set VOXMAKE_TEST_DATA to their folder")


@pytest.mark.parametrize(
    ("name", "count", "has_text"),
    [
        ("kathleen_en", 100, True),
        ("kerstin_de", 150, True),
        ("nathalie_nl", 40, True),
        ("ljspeech_en", 8, True),
        ("librivox_austen", 5, True),
        ("languages_mp3", 23, False),
        ("digits_fsdd", 180, False),
    ],
)
def test_real_set(name, count, has_text, tmp_path):
    listing = read_source(Source(path=name), DATA)
    assert len(listing.recordings) == count
    assert listing.rejected == []
    assert listing.unlisted == []
    assert all(bool(recording.transcription) == has_text for recording in listing.recordings)
    assert {recording.path for recording in listing.recordings} <= set(files_of(Source(path=name), DATA))
    first = listing.recordings[0]
    sha256, size_bytes = fetch(first, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == first.path.read_bytes()
    assert (sha256, size_bytes) == (hashlib.sha256(first.path.read_bytes()).hexdigest(), first.size_bytes)
