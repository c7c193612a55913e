"""diarize.py from the command line, on voices that resemblyzer tells apart."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from sklearn.metrics import adjusted_rand_score

DEMO = ROOT / "data" / "demo" / "recordings"


def script(project, name, *flags, expect=0):
    command = [sys.executable, ROOT / f"scripts/{name}.py", "--config", project / "x.yaml", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stderr


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def two_voices(tmp_path_factory):
    """Collected and preprocessed: six clips each of slt and kal16."""
    folder = tmp_path_factory.mktemp("voices")
    rows = [row for row in table(DEMO / "metadata.csv") if row["file_name"].startswith(("slt/", "kal16/"))]
    rows = [row for row in rows if row["file_name"].endswith(".flac")]
    chosen = [row for name in ("slt", "kal16") for row in rows if row["file_name"].startswith(name)][:40]
    chosen = [row for name in ("slt", "kal16") for row in [r for r in chosen if r["file_name"].startswith(name)][:6]]
    (folder / "recordings").mkdir()
    lines = ["file_name,transcription"]
    for row in chosen:
        name = row["file_name"].replace("/", "_")
        (folder / "recordings" / name).write_bytes((DEMO / row["file_name"]).read_bytes())
        lines.append(f'{name},"{row["transcription"]}"')
    (folder / "recordings/metadata.csv").write_text("\n".join(lines) + "\n")
    (folder / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [diarize]\n"
        f"collect: {{sources: [{{path: '{folder / 'recordings'}'}}]}}\nexecution: {{workers: 1, progress: none}}\n"
    )
    return folder


@pytest.fixture
def voices(two_voices, monkeypatch):
    monkeypatch.setenv("VOXMAKE_DATA", str(two_voices / "data"))
    for name in ("collect", "preprocess"):
        script(two_voices, name)
    return two_voices


def result(project):
    return (project / "data/projects/test/diarize").resolve()


def test_two_voices_are_told_apart_with_no_count_given(voices):
    script(voices, "diarize")
    path = result(voices)
    rows = table(path / "speakers.csv")
    truth = [row["id"].split("_")[0] for row in rows]
    assert adjusted_rand_score(truth, [row["speaker"] for row in rows]) == 1.0
    assert {row["state"] for row in rows} <= {"definite", "uncertain"}
    assert json.loads((path / "speaker_ids.json").read_text()) == {row["file_name"]: row["speaker"] for row in rows}
    described = json.loads((path / "speakers.json").read_text())
    for name, facts in described.items():
        assert facts["clips"] == 6
        sample, rate_hz = soundfile.read(path / f"cluster_samples/{name}_sample.wav")
        assert len(sample) / rate_hz > 5
        assert np.abs(sample).max() > 0.05
        assert all((path / entry["file"]).is_file() for entry in facts["samples"])
    from safetensors.numpy import load_file

    vectors = load_file(path / "embeddings.safetensors")["embeddings"]
    assert vectors.shape == (12, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not list(path.glob("rttm/*"))  # nothing was cut


def test_embeddings_are_computed_once(voices):
    script(voices, "diarize")
    assert "12 of 12 clips were embedded before" in script(voices, "diarize", "--set", "diarize.speakers=3")
    assert len({row["speaker"] for row in table(result(voices) / "speakers.csv")}) == 3
    (voices / "data/.cache/embeddings.sqlite").write_bytes(b"damaged")
    assert "0 of 12 clips were embedded before" in script(voices, "diarize", "--set", "diarize.speakers=2")


def test_corrections_are_an_input_of_the_next_run(voices):
    script(voices, "diarize")
    before = table(result(voices) / "speakers.csv")
    moved = before[0]["id"]
    corrections = voices / "corrections.csv"
    corrections.write_text(f"target,id,action,value,note\nspeaker,S01,rename,Ada,\nclip,{moved},speaker,Bob,\n")
    flags = ("--set", f"review.corrections={corrections}")
    told = script(voices, "diarize", *flags)
    assert "12 of 12 clips were embedded before" in told
    after = table(result(voices) / "speakers.csv")
    assert {row["speaker"] for row in after} == {"Ada", "Bob", "S02"}
    assert next(row for row in after if row["id"] == moved)["reviewed"] == "yes"
    assert "nothing to do" in script(voices, "diarize", *flags)
    corrections.write_text("target,id,action,value,note\nspeaker,S07,rename,Ada,\n")
    told = script(voices, "diarize", *flags, expect=65)
    assert "corrections.csv:2: no speaker S07; there are: S01, S02" in told
    assert "Traceback" not in told


def test_an_x_vector_model_of_transformers(voices):
    """Its own classes and file format, with tiny random weights."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = voices / "model"
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, tdnn_dim=(8, 8, 8, 8, 16), xvector_output_dim=12,
    )  # fmt: skip
    import torch

    torch.manual_seed(0)
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    flags = ("--set", "diarize.engine=transformers", "--set", f"diarize.model={folder}", "--set", "diarize.speakers=2")
    script(voices, "diarize", *flags)
    from safetensors.numpy import load_file

    assert load_file(result(voices) / "embeddings.safetensors")["embeddings"].shape == (12, 12)
    told = script(voices, "diarize", "--set", "diarize.engine=transformers", expect=2)
    assert "these need it" in told


def test_contradicting_counts_are_refused(voices):
    told = script(voices, "diarize", "--set", "diarize.speakers=2", "--set", "diarize.max_speakers=3", expect=2)
    assert "take min_speakers and max_speakers out" in told
