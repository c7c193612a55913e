"""Runs for tests of what reads runs: small folders with the tables that the stages publish."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import soundfile
from conftest import voice

RATE_HZ = 16000
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!-- @@DATA@@ \"quoted\", and 'more'"


def write_csv(path, columns, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def room_runs(folder, clips=12, speakers=3, text="Sentence number {}, spoken on a rainy day."):
    """Published runs of segment, diarize, prepare_dataset, quality_report and whisper_validate; gives their folders by name.

    Clip n is spoken by speaker n % speakers; every third is a suspect, every fourth a sample, every fifth misheard. Clip 0 holds
    a hostile text, the last one is noise and so left out of the dataset.
    """
    runs = {
        name: folder / name for name in ("clips", "diarize", "prepare_dataset", "quality_report", "whisper_validate")
    }
    for name in (
        "clips/audio",
        "prepare_dataset/audio/train",
        "quality_report",
        "diarize/cluster_samples",
        "whisper_validate",
    ):
        (folder / name).mkdir(parents=True)
    rows, voices = [], {}
    for number in range(clips):
        clip_id, name = f"reader_{number:04}", f"S{number % speakers + 1:02}"
        noise = number == clips - 1
        level = 0.5 if number % 5 == 0 else 0.02 + 0.02 * (number % 7)
        samples = voice(0.4 + 0.05 * (number % 9), RATE_HZ, number, level)
        if number == 3:
            samples = np.clip(samples * 40, -1, 1)
        row = {
            "id": clip_id,
            "file_name": f"audio/{clip_id}.{'flac' if number == 1 else 'wav'}",
            "transcription": HOSTILE if number == 0 else text.format(number),
            "source": f"metadata.csv:{number + 2}",
            "speaker": "",
            "language": "en",
            "duration_s": round(len(samples) / RATE_HZ, 3),
            "sample_rate_hz": RATE_HZ,
            "level_after_db": -20.0,
            "clipping_ratio": 0.01 if number == 3 else 0.0,
            "bandwidth_hz": 7000 + number,
        }
        soundfile.write(runs["clips"] / row["file_name"], samples, RATE_HZ, subtype="PCM_16")
        voices.setdefault("" if noise else name, []).append((row, samples))
        rows.append(row)
    write_csv(runs["clips"] / "metadata.csv", list(rows[0]), rows)
    named = {row["id"]: name for name, members in voices.items() for row, _ in members}
    _diarized(runs["diarize"], rows, voices, named)
    kept = [row for row in rows if named[row["id"]]]
    _prepared(runs["prepare_dataset"], runs["clips"], kept, rows[-1], named)
    _reported(runs["quality_report"], kept)
    _recognised(runs["whisper_validate"], kept)
    return runs


def _diarized(run, rows, voices, named):
    clusters = []
    for number, row in enumerate(rows):
        doubtful = number % 6 == 5
        state = ("uncertain" if doubtful else "definite") if named[row["id"]] else "noise"
        clusters.append(
            {
                "id": row["id"],
                "file_name": row["file_name"],
                "speaker": named[row["id"]],
                "state": state,
                "distance": 0.7 if doubtful else 0.2,
                "nearest": "S01",
                "nearest_distance": 0.75,
            }
        )
    write_csv(run / "speakers.csv", list(clusters[0]), clusters)
    listed = {}
    for name, members in voices.items():
        if not name:
            continue
        (run / "cluster_samples" / name).mkdir()
        samples = []
        for place, (row, sound) in enumerate(members[:4]):
            role = "central" if place < 2 else "doubtful"
            file = f"cluster_samples/{name}/{role}_{place:02}.wav"
            soundfile.write(run / file, sound, RATE_HZ, subtype="PCM_16")
            samples.append({"id": row["id"], "file": file, "role": role})
        seconds = sum(row["duration_s"] for row, _ in members)
        listed[name] = {"clips": len(members), "seconds": round(seconds, 3), "samples": samples}
    (run / "speakers.json").write_text(json.dumps(listed))


def _prepared(run, clips, rows, left_out, named):
    prepared = []
    for number, row in enumerate(rows):
        name = f"audio/train/{Path(row['file_name']).name}"
        (run / name).write_bytes((clips / row["file_name"]).read_bytes())
        prepared.append(
            {
                "id": row["id"],
                "file_name": name,
                "split": "train",
                "text": row["transcription"].lower(),
                "transcription": row["transcription"],
                "speaker": named[row["id"]],
                "speaker_id": number % 3,
                "language": "en",
                "duration_s": row["duration_s"],
                "level_db": -20.0,
                "clipping_ratio": row["clipping_ratio"],
                "bandwidth_hz": row["bandwidth_hz"],
            }
        )
    write_csv(run / "metadata.csv", list(prepared[0]), prepared)
    left_out = {"id": left_out["id"], "source": left_out["source"], "reason": "no_speaker", "detail": "noise"}
    write_csv(run / "rejected.csv", list(left_out), [left_out])


def _reported(run, rows):
    measured = [
        {
            "id": row["id"],
            "score": 3.5 if place % 3 == 0 else 0,
            "reasons": "clipped;too fast" if place % 3 == 0 else "",
            "snr_db": 10.0 + place,
            "chars_per_s": 14.5,
        }
        for place, row in enumerate(rows)
    ]
    write_csv(run / "clips.csv", list(measured[0]), measured)
    suspects = [{"rank": rank, "text": '"Ten, he said', **row} for rank, row in enumerate(measured[::3], start=1)]
    samples = [{"rank": rank, "id": row["id"]} for rank, row in enumerate(rows[1::4], start=1)]
    for name, listed in (("suspects.tsv", suspects), ("samples.tsv", samples)):
        lines = [list(listed[0]), *(row.values() for row in listed)]
        (run / name).write_text("".join("\t".join(map(str, cells)) + "\n" for cells in lines))


def _recognised(run, rows):
    heard = []
    for place, row in enumerate(rows):
        text, passed = " ".join(re.findall(r"\w+", row["transcription"].lower())), place % 5 > 0
        said = text if passed else text.replace("spoken on a", "open an")
        heard.append(
            {
                "id": row["id"], "class": "ok" if passed else "wrong_text", "passed": "yes" if passed else "no",
                "similarity": 1.0 if passed else round(0.7 - place / 100, 2), "cer": 0.0, "wer": 0.0, "edge_start_cer": 0.0,
                "edge_end_cer": 0.0, "heard_language": "", "text": row["transcription"], "hypothesis": said,
                "reference_compared": text, "hypothesis_compared": said,
            }
        )  # fmt: skip
    write_csv(run / "validation.csv", list(heard[0]), heard)
