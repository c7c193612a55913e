"""Defects planted in real recordings are among the top suspects, each with its reason; prints precision and recall.

python -m pytest tests/quality/test_planted.py -m slow -s
"""

import csv
import io

import numpy as np
import pytest
import soundfile
import soxr
from prepared_runs import report  # noqa: F401 - a fixture

from voxmake.audio.decode import Decoded
from voxmake.audio.probe import probe
from voxmake.audio.spec import AudioSpec
from voxmake.audio.standardise import standardise

SPEC = AudioSpec()
OF_EACH = 20
# What may be told of each defect: a clip that is cut holds too much text for its length as well.
RIGHT = {
    "clipped": {"clipped"},
    "wrong_text": {"too_fast", "too_slow"},
    "cut": {"cut_start", "cut_end", "too_fast"},
    "duplicated": {"duplicate_audio", "near_duplicate"},
    "other_speaker": {"other_speaker"},
    "noise": {"noisy", "noisier", "low_dnsmos"},
}


def recordings(real):
    """(speaker, path, text) of both real voices, in a fixed random order."""
    kathleen, kerstin = real / "kathleen_en", real / "kerstin_de"
    found = [
        ("kathleen", kathleen / row["file_name"], row["transcription"])
        for row in csv.DictReader((kathleen / "metadata.csv").open())
    ]
    for name, text in csv.reader((kerstin / "metadata.csv").open(), delimiter="|"):
        found.append(("kerstin", kerstin / "audio" / f"{name}.webm", text))
    order = np.random.default_rng(7).permutation(len(found))
    return [found[index] for index in order]


def samples_of(path):
    source = Decoded(path, SPEC, probe(path, SPEC))
    return np.concatenate([np.array(block) for block in source]), source.sample_rate_hz


def spoilt(folder, kind, path, rng):
    """The recording with the defect, as somebody would hand it in; then preprocess does its work on it."""
    samples, rate_hz = samples_of(path)
    if kind == "clipped":
        # Gain that drives the loudest half per cent of the samples against the limit.
        samples = np.clip(samples / np.quantile(np.abs(samples), 0.995), -1, 1)
    elif kind == "noise":  # white, at 10 dB in the band that the clips keep
        samples = soxr.resample(samples, rate_hz, SPEC.sample_rate_hz)
        rate_hz = SPEC.sample_rate_hz
        samples = samples + rng.normal(0, np.sqrt(np.mean(samples**2)) * 10 ** (-10 / 20), len(samples))
        samples = samples / max(1.0, np.abs(samples).max())
    elif kind == "cut":
        keep = round(len(samples) * rng.uniform(0.55, 0.75))
        samples = samples[:keep] if rng.random() < 0.5 else samples[-keep:]
    elif kind == "duplicated":  # the same recording, exported again at another level, begun 0.1 s later, as MP3
        data = io.BytesIO()
        soundfile.write(data, samples[rate_hz // 10 :] * 0.5, rate_hz, format="MP3")
        data.seek(0)
        samples, _ = soundfile.read(data, dtype="float32")
    out = folder / f"{kind}.wav"
    soundfile.write(out, samples, rate_hz, subtype="PCM_16")
    return out


def planted(real, folder):
    """Rows for `publish`, and id -> defect (None for the recordings left as they are)."""
    rng = np.random.default_rng(11)
    found = recordings(real)
    rows, defects = [], {}
    kinds = [kind for kind in RIGHT if kind != "duplicated" for _ in range(OF_EACH)]
    wrong = [number for number, kind in enumerate(kinds) if kind == "wrong_text"]
    texts = {
        number: next(
            found[other][2]
            for other in [*wrong[wrong.index(number) + 1 :], *wrong]
            if other != number and found[other][0] == found[number][0]
        )
        for number in wrong
    }
    for number, (speaker, path, text) in enumerate(found):
        kind = kinds[number] if number < len(kinds) else None
        row = {"id": f"{speaker}_{number:03}", "speaker": speaker, "text": texts.get(number, text), "source": path.name}
        if kind == "other_speaker":
            row["speaker"] = "kerstin" if speaker == "kathleen" else "kathleen"
        rows.append(row | made(folder, kind, path, rng))
        defects[row["id"]] = kind
        if number >= len(found) - OF_EACH:  # copies of clips that are good themselves
            copy = row | {"id": f"{row['id']}_copy"} | made(folder, "duplicated", path, rng)
            rows.append(copy)
            defects[row["id"]] = defects[copy["id"]] = "duplicated"
    add_distances(rows)
    return rows, defects


def made(folder, kind, path, rng):
    if kind in ("clipped", "noise", "cut", "duplicated"):
        path = spoilt(folder, kind, path, rng)
    data, measured = standardise(path, SPEC)
    return {"wav": data, **{name: measured[name] for name in ("duration_s", "clipping_ratio", "bandwidth_hz")}}


def add_distances(rows):
    """speaker_distance as diarize gives it: cosine distance of a clip's embedding to its speaker's centroid."""
    from resemblyzer import VoiceEncoder

    encoder = VoiceEncoder("cpu", verbose=False)
    voices = np.array(
        [encoder.embed_utterance(soundfile.read(io.BytesIO(row["wav"]))[0].astype(np.float32)) for row in rows]
    )
    labels = np.array([row["speaker"] for row in rows])
    for label in set(labels):
        centroid = voices[labels == label].mean(axis=0)
        centroid /= np.linalg.norm(centroid)
        for index in np.flatnonzero(labels == label):
            rows[index]["speaker_distance"] = f"{1 - float(voices[index] @ centroid):.4f}"


@pytest.mark.slow
def test_planted_defects_are_among_the_top_suspects_with_their_reason(real, tmp_path, report, capsys):  # noqa: F811
    rows, defects = planted(real, tmp_path)
    count = sum(kind is not None for kind in defects.values())
    found = report(rows, "--suspect-top", str(count))
    assert found.code == 1, found.errors  # the copies are more than the gate allows
    top = found.table("suspects.tsv")
    told = {row["id"]: set(row["reasons"].split(";")) for row in top}
    lines, recalls = [], {}
    for kind, right in RIGHT.items():
        ids = [item for item, defect in defects.items() if defect == kind]
        recalls[kind] = sum(bool(told.get(item, set()) & right) for item in ids) / len(ids)
        lines.append(f"{kind:<14} {len(ids):3} planted, recall {recalls[kind]:.2f}")
    precision = sum(defects[row["id"]] is not None for row in top) / len(top)
    with capsys.disabled():
        print(f"\nthe {len(top)} worst suspects: precision {precision:.2f}", *lines, sep="\n")
    assert precision >= 0.9
    for kind in ("clipped", "duplicated", "other_speaker", "noise"):
        assert recalls[kind] >= 0.95
    assert recalls["cut"] >= 0.8  # the others end in a pause, and lost little text
    assert recalls["wrong_text"] >= 0.3  # the others are about as long as the right text: only ears or ASR can tell


@pytest.mark.slow
def test_recognition_finds_the_wrong_texts(real, report, capsys):  # noqa: F811
    """In the voice whose language the embedded recogniser knows; below 0.6 is hardly ever a mistake of its own."""
    rng = np.random.default_rng(11)
    found = [(path, text) for speaker, path, text in recordings(real) if speaker == "kathleen"]
    rows = [{"id": f"clip_{n:03}", "text": text} | made(None, None, path, rng) for n, (path, text) in enumerate(found)]
    for number in range(OF_EACH):
        rows[number]["text"] = found[(number + 1) % OF_EACH][1]
    wrong = {row["id"] for row in rows[:OF_EACH]}
    reasons = report(rows, "--asr-sample", "1000", "--set", "validation.min_similarity=0.6").reasons()
    told = {item for item, why in reasons.items() if "asr_mismatch" in why}
    recall, precision = len(told & wrong) / len(wrong), len(told & wrong) / len(told)
    with capsys.disabled():
        print(
            f"\n{len(wrong)} wrong texts in {len(rows)} clips: asr_mismatch has recall {recall:.2f}, precision {precision:.2f}"
        )
    assert recall >= 0.95
    assert precision >= 0.85
