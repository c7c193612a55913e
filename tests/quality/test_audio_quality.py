"""Clip statistics, fingerprints, duplicates, rules: each on signals whose answer is known."""

import hashlib
import io
import struct
import time

import numpy as np
import pytest
import soundfile
from conftest import voice

from voxmake.audio.spec import AudioSpec
from voxmake.audio.standardise import encode
from voxmake.audio.statistics import clip_statistics, read_clip
from voxmake.errors import Rejected
from voxmake.quality.duplicates import add_duplicates, groups_of, pack, surplus, text_key, unpack
from voxmake.quality.fingerprint import fingerprint, near_duplicates, spectrogram
from voxmake.quality.rules import RULES, judge
from voxmake.quality.spec import Quality

RATE_HZ = 16000


def int16(values):
    return np.clip(np.rint(values * 32768), -32768, 32767).astype(np.int16)


def tone(seconds, level_db=-20.0, hz=440.0):
    return 10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)


def noise(seconds, level_db, seed=0):
    return 10 ** (level_db / 20) * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))


# ---------------------------------------------------------------------------- reading


def test_a_wav_reads_as_libsndfile_reads_it(tmp_path):
    samples = voice(1.0)
    (tmp_path / "a.wav").write_bytes(encode(samples, AudioSpec()))
    soundfile.write(tmp_path / "b.flac", samples, RATE_HZ, subtype="PCM_16")
    ours, rate_hz = read_clip(tmp_path / "a.wav")
    assert rate_hz == RATE_HZ
    assert np.array_equal(ours, soundfile.read(tmp_path / "a.wav", dtype="int16")[0])
    flac, _ = read_clip(tmp_path / "b.flac")
    assert clip_statistics(ours, RATE_HZ) == clip_statistics(flac, RATE_HZ)


def test_chunks_before_the_samples_are_skipped(tmp_path):
    data = encode(voice(0.2), AudioSpec())
    noted = data[:12] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + data[12:]
    (tmp_path / "a.wav").write_bytes(noted)
    (tmp_path / "b.wav").write_bytes(data)
    assert np.array_equal(read_clip(tmp_path / "a.wav")[0], read_clip(tmp_path / "b.wav")[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"RIFF\0\0\0\0WAVEnothing here", "undecodable"),
        (b"", "undecodable"),
        (encode(np.zeros(0, np.float32), AudioSpec()), "no_samples"),
    ],
)
def test_what_is_no_clip_is_rejected_with_its_reason(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(Rejected) as rejected:
        read_clip(tmp_path / "a.wav")
    assert rejected.value.reason == reason


def test_stereo_is_rejected(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), RATE_HZ, subtype="PCM_16")
    with pytest.raises(Rejected) as rejected:
        read_clip(tmp_path / "a.wav")
    assert rejected.value.reason == "too_many_channels"


# ---------------------------------------------------------------------------- statistics


def test_levels_pauses_and_edges_of_a_known_signal():
    quiet = noise(0.5, -70)
    found = clip_statistics(int16(np.concatenate([quiet, tone(1), noise(0.3, -70), tone(1), quiet])), RATE_HZ)
    assert found["duration_s"] == 3.3
    assert found["speech_db"] == pytest.approx(-20, abs=0.1)
    assert found["snr_db"] == pytest.approx(50, abs=1.5)
    assert (found["head_s"], found["tail_s"], found["pause_s"]) == (0.5, 0.5, 0.3)
    assert found["silence_ratio"] == pytest.approx(1.3 / 3.3, abs=0.005)
    assert found["edge_start_db"] == pytest.approx(-50, abs=1.5)
    assert found["peak_db"] == pytest.approx(-17, abs=0.1)


@pytest.mark.parametrize("snr_db", [5, 10, 20, 30])
def test_snr_follows_the_noise_that_was_added(snr_db):
    speech = np.concatenate([tone(0.5), np.zeros(4000), tone(0.5), np.zeros(4000)])
    found = clip_statistics(int16(speech + noise(1.5, -20 - snr_db)), RATE_HZ)
    assert found["snr_db"] == pytest.approx(10 * np.log10(10 ** (snr_db / 10) + 1), abs=1.5)


def test_a_cut_through_a_word_shows_at_its_edge():
    whole = np.concatenate([noise(0.2, -70), tone(1), noise(0.2, -70)])
    start, end = clip_statistics(int16(whole[8000:]), RATE_HZ), clip_statistics(int16(whole[:8000]), RATE_HZ)
    assert start["edge_start_db"] > -1 and start["edge_end_db"] < -40
    assert end["edge_end_db"] > -1 and end["edge_start_db"] < -40


def test_flat_tops_are_found_at_full_scale_and_after_turning_it_down():
    loud = np.clip(tone(1, 6), -1, 0.9999)
    for gain in (1.0, 0.3):
        assert clip_statistics(int16(loud * gain), RATE_HZ)["flat_top_ratio"] > 0.3
    assert clip_statistics(int16(tone(1, -6)), RATE_HZ)["flat_top_ratio"] == 0
    assert clip_statistics(int16(noise(1, -20)), RATE_HZ)["flat_top_ratio"] == 0


def test_dc_is_a_share_of_full_scale():
    assert clip_statistics(int16(tone(1) + 0.05), RATE_HZ)["dc_ratio"] == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("samples", [np.zeros(8000), np.zeros(1), np.full(1, 0.5), tone(0.004)])
def test_silence_and_crumbs_measure_without_an_accident(samples):
    found = clip_statistics(int16(samples), RATE_HZ)
    assert all(np.isfinite(value) for name, value in found.items() if name != "audio_sha256")
    if not samples.any():
        assert found["silence_ratio"] == 1
        assert found["rms_db"] == -120


def test_the_hash_is_of_the_samples():
    samples = int16(tone(0.1))
    assert clip_statistics(samples, RATE_HZ)["audio_sha256"] == hashlib.sha256(samples.tobytes()).hexdigest()


# ---------------------------------------------------------------------------- copies of a recording


def babble(seconds, seed):
    """Noise in changing bands: a spectrogram as rich as speech, different for each seed."""
    rng = np.random.default_rng(seed)
    steps = round(seconds / 0.08)
    out = []
    for _ in range(steps):
        spectrum = np.zeros(641, complex)
        for centre in rng.uniform(10, 300, 3):
            low = int(centre)
            spectrum[low : low + 25] += rng.normal(size=25) + 1j * rng.normal(size=25)
        out.append(np.fft.irfft(spectrum, 1280) * rng.uniform(0.2, 1) * np.hanning(1280))
    samples = np.concatenate(out)
    return 0.3 * samples / np.abs(samples).max()


def as_mp3(samples):
    data = io.BytesIO()
    soundfile.write(data, samples, RATE_HZ, format="MP3")
    data.seek(0)
    return soundfile.read(data)[0]


def narrow(samples):
    import soxr

    return soxr.resample(soxr.resample(samples, RATE_HZ, 8000), 8000, RATE_HZ)


CHANGES = {
    "quieter": lambda samples: samples * 0.3,
    "cut": lambda samples: samples[3777:],
    "later": lambda samples: np.concatenate([noise(0.33, -80), samples]),
    "mp3": as_mp3,
    "8 kHz": narrow,
    "noise": lambda samples: samples + noise(len(samples) / RATE_HZ, -35, 5)[: len(samples)],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_clips(change):
    clips = [int16(babble(3, seed)) for seed in range(8)]
    clips.append(int16(CHANGES[change](babble(3, 5))))
    prints = [fingerprint(clip, RATE_HZ) for clip in clips]
    assert near_duplicates(prints, lambda index: spectrogram(clips[index], RATE_HZ), 0.85) == [[5, 8]]


def test_of_real_sentences_all_changed_copies_are_found_and_nothing_else(real):
    paths = sorted((real / "kathleen_en" / "audio").glob("*"))[:40]
    whole = [soundfile.read(path, always_2d=True)[0][:, 0] for path in paths]
    import soxr

    whole = [soxr.resample(samples, 48000, RATE_HZ) for samples in whole]
    copies = [change(samples) for change, samples in zip([*CHANGES.values()] * 7, whole, strict=False)]
    clips = [int16(samples) for samples in [*whole, *copies]]
    prints = [fingerprint(clip, RATE_HZ) for clip in clips]
    groups = near_duplicates(prints, lambda index: spectrogram(clips[index], RATE_HZ), 0.85)
    expected = [[index, index + 40] for index in range(40)]
    assert [group for group in groups if group not in expected] == []
    assert len(groups) >= 39


def test_two_takes_of_a_short_word_are_no_copies(real):
    clips = []
    for path in sorted((real / "digits_fsdd" / "audio").glob("*_jackson_*.wav")):
        clips.append((soundfile.read(path, dtype="int16")[0], 8000))
    prints = [fingerprint(*clip) for clip in clips]
    assert near_duplicates(prints, lambda index: spectrogram(*clips[index]), 0.85) == []


def test_silence_has_no_fingerprint_and_no_copies():
    assert fingerprint(np.zeros(20000, np.int16), RATE_HZ)[0] == []
    assert near_duplicates([fingerprint(np.zeros(20000, np.int16), RATE_HZ)] * 3, [].__getitem__, 0.85) == []
    assert near_duplicates([], [].__getitem__, 0.85) == []


def test_fingerprints_survive_packing():
    frames, vectors = fingerprint(int16(babble(3, 1)), RATE_HZ)
    assert np.array_equal(unpack(pack(vectors), len(frames)), vectors)


# ---------------------------------------------------------------------------- texts, groups


def test_texts_are_the_same_up_to_case_punctuation_and_width():
    assert text_key("“It's ten—o'clock!”") == text_key("it s TEN o clock") == "it s ten o clock"
    assert text_key("Straße ﬁn") == text_key("STRASSE FIN")
    assert text_key("नमस्ते") != text_key("नमसत")  # marks count
    assert text_key("…") == ""
    assert groups_of(["a", "", "b", "a", ""]) == [[0, 3]]


def clip(split="train", text="x", audio="h", **more):
    return {"split": split, "text": text, "audio_sha256": audio, "anchor_frames": [], "anchor_vectors": ""} | more


def test_copies_conflicts_and_leaks_are_counted():
    clips = [
        clip(text="One."),
        clip(text="one", audio="i", split="test"),
        clip(text="Two.", audio="h"),
        clip(text="Three.", audio="j"),
    ]
    groups = add_duplicates(clips, None, None)
    assert groups == {"text": [[0, 1]], "audio": [[0, 2]], "near": []}
    assert [c["text_copies"] for c in clips] == [1, 1, 0, 0]
    assert [c["audio_copies"] for c in clips] == [1, 0, 1, 0]
    assert [c["text_conflicts"] for c in clips] == [1, 0, 1, 0]
    assert [c["leaks"] for c in clips] == [1, 1, 0, 0]


def test_exact_copies_of_a_near_copy_are_counted_once():
    samples = [int16(babble(3, 5)), int16(babble(3, 5)), int16(babble(3, 5)[4000:]), int16(babble(3, 6))]
    clips = []
    for number, values in enumerate(samples):
        frames, vectors = fingerprint(values, RATE_HZ)
        clips.append(clip(text=str(number), audio=hashlib.sha256(values.tobytes()).hexdigest()))
        clips[-1] |= {"anchor_frames": frames, "anchor_vectors": pack(vectors)}
    groups = add_duplicates(clips, lambda index: spectrogram(samples[index], RATE_HZ), 0.85)
    assert (groups["audio"], groups["near"]) == ([[0, 1]], [[0, 1, 2]])
    assert [c["audio_copies"] for c in clips] == [1, 1, 0, 0]
    assert [c["near_copies"] for c in clips] == [1, 1, 2, 0]
    assert surplus(groups["near"]) + surplus(groups["audio"], beside=groups["near"]) == 2


def test_duplicates_of_20_000_texts_take_seconds():
    texts = [f"Sentence number {number % 15000}, read by somebody who has time." for number in range(20000)]
    begun_s = time.perf_counter()
    assert len(groups_of(map(text_key, texts))) == 5000
    assert time.perf_counter() - begun_s < 10


# ---------------------------------------------------------------------------- rules


def test_every_rule_reads_its_limit_and_has_its_own_code():
    spec = Quality()
    assert len({rule.code for rule in RULES}) == len(RULES)
    for rule in RULES:
        limit, beyond = rule.threshold(spec), 10 * rule.step * (1 if rule.relation == ">=" else -1)
        assert rule.severity(limit, spec) == rule.weight
        assert rule.severity(limit + beyond, spec) == 3 * rule.weight
        assert rule.severity(limit - beyond, spec) == 0
        assert rule.severity(None, spec) == 0


def test_two_faults_rank_before_one_and_a_gross_one_before_a_slight_one():
    good = dict.fromkeys({rule.metric for rule in RULES}) | {"chars": 10, "speaker_state": ""}
    clips = [
        good | {"id": "fine"},
        good | {"id": "slight", "snr_db": 19.5},
        good | {"id": "gross", "snr_db": 8.0},
        good | {"id": "two", "snr_db": 8.0, "cut_end_db": -1.0},
        good | {"id": "voice", "speaker_state": "outlier"},
    ]
    assert [clip["id"] for clip in judge(clips, Quality())] == ["two", "gross", "voice", "slight"]
    assert clips[3]["reasons"] == ["cut_end", "noisy"]
    assert clips[4]["reasons"] == ["other_speaker"]
    assert (clips[0]["score"], clips[0]["reasons"]) == (0, [])
