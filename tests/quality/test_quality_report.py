"""quality_report: what it writes, what its gate says, and that equal input gives equal bytes."""

import csv
import hashlib
import json
import re

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from prepared_runs import report  # noqa: F401 - a fixture
from test_audio_quality import babble, int16, noise

import quality_report
from voxmake.audio.spec import AudioSpec
from voxmake.audio.standardise import encode


def wav(samples):
    return encode((int16(samples) / 32768).astype(np.float32), AudioSpec())


def spoken(seconds, seed):
    """Babble with quiet before and after, as a clip of speech has it."""
    return np.concatenate([noise(0.2, -75, seed), babble(seconds, seed), noise(0.2, -75, seed + 1)])


def prepared(count=24):
    """Clips of two speakers; the fourth of each six is in the test split."""
    rows = []
    for number in range(count):
        seconds = 1.6 + 0.08 * (number % 12)
        rows.append(
            {
                "id": f"clip{number:02}",
                "split": "test" if number % 6 == 3 else "train",
                "speaker": "AB"[number % 2],
                "text": f"Sentence {number} " + "of words " * round(seconds * 2),
                "duration_s": f"{seconds + 0.4}",
                "bandwidth_hz": "7000",
                "speaker_distance": "0.2",
                "wav": wav(spoken(seconds, number)),
            }
        )
    return rows


def digests(path):
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in ("run.json", "run.log")
    }


def test_a_good_set_passes_and_exactly_these_files_are_there(report):  # noqa: F811
    found = report(prepared())
    assert found.code == 0, found.errors
    plots = {"duration", "text_length", "rate", "level", "snr", "silence", "edges", "bandwidth", "speaker_distance"}
    assert set(digests(found.path)) == {
        "MANIFEST.sha256", "characters.csv", "clips.csv", "quality_report.html", "quality_report.md", "rejected.csv", "samples.tsv",
        "stats.json", "suspects.tsv", "plots/text_and_speech.png", *(f"plots/{name}.png" for name in plots),
    }  # fmt: skip
    assert found.gate["verdict"] == "PASS"
    assert {check["name"] for check in found.gate["checks"]} == {
        "text_p95_chars", "duplicate_text_ratio", "duplicate_audio_ratio", "leaked_clips", "duration_spike_ratio",
    }  # fmt: skip
    assert found.stats["items_out"] == 24
    assert len(found.table("clips.csv")) == 24
    for facts in json.loads((found.path / "stats.json").read_text()).values():
        assert set(facts) == {"value", "unit", "description"} and facts["description"]


def test_same_clips_same_bytes_whatever_the_workers(report):  # noqa: F811
    assert digests(report(prepared(), workers=1).path) == digests(report(prepared()[::-1], workers=3).path)


def test_each_defect_is_told_with_its_reason(report):  # noqa: F811
    rows = prepared()
    whole = {row["id"]: row for row in rows}
    whole["clip00"]["clipping_ratio"] = "0.01"
    whole["clip01"]["wav"] = wav(spoken(1.6, 1)[6000:])
    whole["clip02"]["wav"] = wav(spoken(1.7, 2)[:-6000])
    whole["clip04"]["wav"] = wav(spoken(1.92, 4) + noise(2.32, -25))
    whole["clip05"]["text"] = "Yes."
    whole["clip06"]["text"] = "Far too much for so short a time. " * 8
    whole["clip07"]["speaker_distance"] = "0.75"
    whole["clip08"]["bandwidth_hz"] = "3400"
    whole["clip09"]["wav"] = whole["clip10"]["wav"]
    whole["clip11"]["wav"] = wav(0.4 * babble(2, 12)[3000:])
    whole["clip12"]["wav"] = wav(spoken(2, 12))
    whole["clip13"]["text"] = whole["clip14"]["text"]
    whole["clip15"]["wav"] = wav(np.concatenate([spoken(1.5, 15), noise(2.5, -75)]))
    whole["clip16"]["text"] = ""
    whole["clip17"]["speaker_state"] = "outlier"
    whole["clip18"]["wav"] = wav(spoken(1.5, 18) * 0.3 + 0.05)
    found = report(rows)
    assert found.code == 1
    assert "duplicate_audio_ratio is 0.083333, must be <= 0.01; leaked_clips is 1, must be <= 0" in found.errors
    assert found.gate["verdict"] == "FAIL"
    told = found.reasons()
    for item, reason in {
        "clip00": "clipped", "clip01": "cut_start", "clip02": "cut_end", "clip04": "noisy", "clip05": "too_slow",
        "clip06": "too_fast", "clip07": "other_speaker", "clip08": "narrow_band", "clip09": "duplicate_audio",
        "clip10": "conflicting_text", "clip11": "near_duplicate", "clip12": "near_duplicate", "clip13": "duplicate_text",
        "clip15": "long_tail", "clip16": "no_text", "clip17": "other_speaker", "clip18": "dc",
    }.items():  # fmt: skip
        assert reason in told[item], (item, told[item])
    suspects = found.table("suspects.tsv")
    assert [float(row["score"]) for row in suspects] == sorted((float(row["score"]) for row in suspects), reverse=True)
    assert [row["rank"] for row in suspects] == [str(number + 1) for number in range(len(suspects))]
    assert all(row["reasons"] for row in suspects)
    assert not told["clip20"] and not told["clip22"]


def test_each_gate_can_fail_and_can_be_turned_off(report):  # noqa: F811
    rows = prepared()
    for row in rows[1:3]:
        row["text"] = rows[0]["text"]
    rows[5]["text"] = "x" * 400
    rows[3] |= {"text": rows[2]["text"]}
    limits = "gate_text_p95_chars=30 gate_duration_spike_ratio=0 gate_suspect_ratio=0 gate_bandwidth_median_hz=7500 gate_min_hours=1"
    found = report(rows, *(flag for limit in limits.split() for flag in ("--set", f"quality.{limit}")))
    assert found.code == 1
    failed = {check["name"] for check in found.gate["checks"] if not check["passed"]}
    assert failed == {
        "text_p95_chars", "duplicate_text_ratio", "leaked_clips", "duration_spike_ratio", "suspect_ratio",
        "bandwidth_median_hz", "hours",
    }  # fmt: skip
    off = "text_p95_chars duplicate_text_ratio duplicate_audio_ratio leaked_clips duration_spike_ratio"
    found = report(rows, *(flag for gate in off.split() for flag in ("--set", f"quality.gate_{gate}=null")))
    assert (found.code, found.gate["checks"]) == (0, [])


def test_flags_set_keys_of_the_config_and_enter_the_hash(report):  # noqa: F811
    found = report(prepared(), "--sample-count", "4", "--suspect-top", "0")
    assert found.code == 0, found.errors
    assert len(found.table("samples.tsv")) == 4
    assert {row["speaker"] for row in found.table("samples.tsv")} == {"A", "B"}
    assert found.table("suspects.tsv") == []
    identity = json.loads((found.path / "run.json").read_text())["identity"]
    assert (identity["keys"]["quality"]["sample_count"], identity["keys"]["quality"]["suspect_top"]) == (4, 0)
    assert report(prepared(), "--sample-count", "many").code == 2


def test_a_draw_gives_every_speaker_a_turn_and_depends_on_the_seed_alone():
    rows = [
        {"id": f"{speaker}{n}", "speaker": speaker}
        for speaker, count in (("A", 90), ("B", 9), ("C", 1))
        for n in range(count)
    ]
    chosen = quality_report.drawn(rows, 9, 42, "sample")
    assert sorted(row["speaker"] for row in chosen) == ["A"] * 4 + ["B"] * 4 + ["C"]
    assert quality_report.drawn(rows[::-1], 9, 42, "sample") == chosen
    assert quality_report.drawn(rows, 9, 43, "sample") != chosen
    assert quality_report.drawn(rows, None, 42, "sample") == rows
    assert len(quality_report.drawn(rows, 1000, 42, "sample")) == 100


def test_text_is_data_on_every_page(report):  # noqa: F811
    rows = prepared()
    rows[0]["text"] = '<script>alert("x")</script> | [a](b)'
    rows[1]["text"] = "=cmd()"
    for row in rows[:2]:
        row["clipping_ratio"] = "0.5"
    found = report(rows)
    html, markdown = ((found.path / f"quality_report.{kind}").read_text() for kind in ("html", "md"))
    assert "<script" not in html and "&lt;script&gt;" in html
    assert r"\<script\>" in markdown and r"\| \[a\]" in markdown
    assert {row["text"] for row in found.table("suspects.tsv")} >= {"'=cmd()"}
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", re.sub(r'xlink:href="(?:#|data:)', "", html))


def test_a_set_without_texts_is_measured_all_the_same(report):  # noqa: F811
    found = report([row | {"text": ""} for row in prepared()])
    assert found.code == 0, found.errors
    assert not any("no_text" in reasons for reasons in found.reasons().values())


def test_a_clip_that_can_not_be_read_is_rejected_and_counted(report):  # noqa: F811
    rows = prepared()
    rows[0]["wav"] = b"RIFF\0\0\0\0WAVEnothing"
    found = report(rows)
    assert found.code == 0, found.errors
    assert (found.stats["items_in"], found.stats["items_out"], found.stats["rejected_undecodable"]) == (24, 23, 1)


def test_dnsmos_scores_a_sample_and_rates_noise_lower(report, real):  # noqa: F811
    import soundfile
    import soxr

    rows = prepared(6)
    clean = soxr.resample(soundfile.read(sorted((real / "kathleen_en/audio").glob("*.wav"))[0])[0][:, 0], 48000, 16000)
    rows[0]["wav"] = wav(clean)
    rows[1]["wav"] = wav(clean + noise(len(clean) / 16000, -30)[: len(clean)])
    found = report(rows, "--set", "quality.dnsmos=true", "--set", "quality.gate_duplicate_audio_ratio=null")
    scores = {row["id"]: float(row["dnsmos_ovrl"]) for row in found.table("clips.csv")}
    assert scores["clip00"] > 2.5 > scores["clip01"]
    assert (found.path / "plots" / "dnsmos.png").exists()
    some = report(rows, "--set", "quality.dnsmos=true", "--set", "quality.dnsmos_sample=2")
    assert sum(row["dnsmos_ovrl"] != "" for row in some.table("clips.csv")) == 2


@pytest.mark.parametrize("flag", ["--sample-count", "--suspect-top"])
def test_help_names_the_flags(flag, capsys):
    with pytest.raises(SystemExit):
        quality_report.main(["--help"])
    assert flag in capsys.readouterr().out


def test_every_reason_and_gate_is_documented():
    from voxmake.quality.rules import RULES
    from voxmake.quality.spec import Quality

    page = (ROOT / "docs" / "quality.md").read_text()
    for name in [*(rule.code for rule in RULES), *(key for key in Quality.model_fields if key.startswith("gate_"))]:
        assert f"`{name}`" in page, name


def read_aloud(count):
    """Clips of the demo's synthetic voice with their texts; the last one has the text of the first."""
    recordings = ROOT / "data" / "demo" / "recordings"
    with (recordings / "metadata.csv").open(newline="") as stream:
        told = [row for row in csv.DictReader(stream) if re.fullmatch(r"slt/.*\.flac", row["file_name"])][:count]
    rows = []
    for row in told:
        samples, rate_hz = soundfile.read(recordings / row["file_name"], dtype="float32")
        rows.append(
            {
                "id": row["file_name"].removeprefix("slt/").partition(".")[0],
                "text": row["transcription"],
                "duration_s": f"{len(samples) / rate_hz}",
                "wav": encode(samples, AudioSpec(sample_rate_hz=rate_hz)),
            }
        )
    rows[-1]["text"] = rows[0]["text"]
    return rows


def test_recognising_a_sample_finds_the_wrong_text(report):  # noqa: F811
    rows = read_aloud(5)
    flags = ("--set", "validation.min_similarity=0.5", "--set", "quality.gate_duplicate_text_ratio=1")
    found = report(rows, "--asr-sample", "5", *flags)
    assert found.code == 1, found.errors  # one of five is not alike
    assert {item for item, reasons in found.reasons().items() if "asr_mismatch" in reasons} == {rows[-1]["id"]}
    assert found.table("suspects.tsv")[0]["id"] == rows[-1]["id"]
    sample = found.table("asr_sample.tsv")
    assert list(sample[0]) == ["id", "ref", "hyp", "similarity"] and len(sample) == 5
    failed = {check["name"] for check in found.gate["checks"] if not check["passed"]}
    assert "asr_low_similarity_ratio" in failed
    assert "asr_mean_similarity" in {check["name"] for check in found.gate["checks"]}
    counted = {row["id"]: row for row in found.table("clips.csv")}
    assert all(counted[row["id"]]["asr_similarity"] == row["similarity"] for row in sample)
    # Three of them only, and nothing of the rest; the engine and its gates are no part of a report without it.
    part = report(rows, "--asr-sample", "3", *flags)
    assert sum(bool(row["asr_class"]) for row in part.table("clips.csv")) == 3
    assert "recognised before" in part.errors
    assert report(rows).keys == report(rows, "--set", "validation.min_similarity=0.5").keys
