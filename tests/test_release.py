"""release.py: one package of each kind of voice, complete, the same bytes again, and refused where it must be."""

import io
import json
import subprocess
import sys
import tarfile
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "vits"))

from made_datasets import dataset, publish
from test_voice import tiny

import release
import train_mms
import train_piper
from voxmake.errors import ConfigError
from voxmake.run.run import csv_text
from voxmake.vits import package, voice
from voxmake.vits.export import add_metadata, export_onnx
from voxmake.vits.measure import sample_bytes

SENTENCE = "abc fed abc"
GATE = {
    "verdict": "PASS",
    "checks": [{"name": "level_min", "value": -20, "relation": ">=", "limit": -45, "passed": True}],
}


def trained(folder, stage, model_files, ids, base):
    """A published training, with what release reads of it."""
    wav = sample_bytes(np.full(4000, 0.1, np.float32), 16000)
    files = {f"model/{name}": data for name, data in model_files.items()} | {
        "sentences.json": json.dumps([{"text": SENTENCE, "ids": ids}]),
        "samples.csv": csv_text(("file", "text"), [("samples/01.wav", SENTENCE)]),
        "samples/01.wav": wav, "plots/curves.png": b"png", "training_log.json": "{}",
        "stats.json": json.dumps({"cer": {"value": 0.25, "unit": "ratio", "description": "error rate"}}),
    }  # fmt: skip
    publish(folder / stage.name, stage, files)
    record = {
        "identity": {"stage": stage.name, "version": 1, "outside": {"base_model": "x"} if base else {}},
        "stage": stage.name, "hash": "0" * 12, "gate": GATE, "config": {"seed": 42}, "versions": {"torch": "2"},
    }  # fmt: skip
    path = folder / stage.name / "run.json"
    path.chmod(0o644)
    path.write_text(json.dumps(record))


def mms(folder, base=False):
    model, tokenizer = tiny(texts=(SENTENCE,))
    voice.save_voice(model.eval(), tokenizer, folder / "hf")
    export_onnx(model, tokenizer, folder / "hf" / "model.onnx", "en")
    files = {path.name: path.read_bytes() for path in (folder / "hf").iterdir()}
    trained(folder, train_mms.STAGE, files, voice.tokens_of(tokenizer, SENTENCE), base)


def piper(folder, loud=0.5, base=False):
    """A voice behind Piper's interface that says a tone: as long as its ids, of a level that can be silence."""
    import onnx

    class Tone(torch.nn.Module):
        def forward(self, ids, lengths, scales):
            time = torch.arange(ids.shape[1] * 256)[None, None] * lengths[0].float() / lengths[0].float()
            return loud * torch.sin(0.1 * time * scales[1])

    path = folder / "tone.onnx"
    arguments = (torch.ones(1, 50, dtype=torch.long), torch.tensor([50]), torch.tensor([0.667, 1.0, 0.8]))
    torch.onnx.export(
        Tone(), arguments, str(path), dynamo=False, opset_version=15, input_names=["input", "input_lengths", "scales"],
        output_names=["output"], dynamic_axes={"input": {1: "phonemes"}, "output": {2: "time"}},
    )  # fmt: skip
    model = onnx.load(path)
    add_metadata(model, {"model_type": "vits", "comment": "piper", "sample_rate": 16000, "n_speakers": 1})
    config = {
        "audio": {"sample_rate": 16000, "quality": "x_low"}, "espeak": {"voice": "en-us"}, "num_symbols": 256,
        "num_speakers": 1, "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_type": "espeak", "phoneme_id_map": {"_": [0], "a": [1]}, "speaker_id_map": {},
    }  # fmt: skip
    files = {"model.onnx": model.SerializeToString(), "model.onnx.json": json.dumps(config), "tokens.txt": "_ 0\na 1\n"}
    trained(folder, train_piper.STAGE, files, [1, 0] * 20, base)


def make(folder, kind, output="out", expect=0, **keys):
    flags = ["--config", str(folder / "x.yaml")]
    keys = {"voice": kind, "name": "anna", "data_licence": "CC0-1.0"} | keys
    for stage in ("prepare_dataset", "whisper_validate", kind):
        flags += ["--input", f"{stage}={folder / stage}"]
    for key, value in keys.items():
        flags += ["--set", f"release.{key}={value}"]
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setenv("VOXMAKE_DATA", str(folder / "data"))
        code = release.main([*flags, "--output", str(folder / output)])
    assert code == expect, said.getvalue()
    return folder / output / "package", said.getvalue()


@pytest.fixture
def data(tmp_path):
    dataset(tmp_path, train=4, validation=1)
    return tmp_path


def test_a_piper_voice(data):
    piper(data)
    folder, said = make(data, "train_piper")
    name = "en_US-anna-x_low"
    assert f"{name} speaks" in said
    inside = sorted(path.relative_to(folder / name).as_posix() for path in (folder / name).rglob("*") if path.is_file())
    assert inside == sorted([
        "SHA256SUMS", "VOICE_CARD.md", "config.json", f"{name}.onnx", f"{name}.onnx.json", "plots/curves.png",
        "reports/prepare_dataset/run.json", "reports/train_piper/run.json", "reports/train_piper/stats.json",
        "reports/whisper_validate/run.json", "samples.csv", "samples/01.wav", "smoke.json", "tokens.txt",
        "training_log.json", "voice.json",
    ])  # fmt: skip
    config = json.loads((folder / name / f"{name}.onnx.json").read_text())
    # wyoming-piper: key = <language.code>-<dataset>-<audio.quality>
    assert f"{config['language']['code']}-{config['dataset']}-{config['audio']['quality']}" == name
    assert config["language"] == {
        "code": "en_US", "family": "en", "region": "US", "name_native": "English", "name_english": "English",
        "country_english": "United States",
    }  # fmt: skip
    card = (folder / name / "VOICE_CARD.md").read_text()
    assert "CC0-1.0" in card and "4 clips" in card and "error rate" in card and "PASS" in card
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder / name, capture_output=True, check=False)
    assert checked.returncode == 0
    again, _ = make(data, "train_piper", output="again")
    assert (again / f"{name}.tar.gz").read_bytes() == (folder / f"{name}.tar.gz").read_bytes()
    with tarfile.open(folder / f"{name}.tar.gz") as tar:
        assert {entry.mtime for entry in tar} == {0} and len(tar.getnames()) == len(inside)


def test_an_mms_voice_and_its_inherited_licence(data):
    mms(data, base=True)
    _, said = make(data, "train_mms", output="bare", expect=2)
    assert "release.base_licence" in said and "CC-BY-NC-4.0" in said
    folder, _ = make(data, "train_mms", base_licence="CC-BY-NC-4.0")
    inside = folder / "en_US-anna-mms"
    assert "Not for commercial use" in (inside / "VOICE_CARD.md").read_text()
    from transformers import pipeline

    spoken = pipeline("text-to-speech", model=str(inside / "transformers"))(SENTENCE)
    assert spoken["audio"].size > 256
    assert json.loads((inside / "voice.json").read_text())["licence"] == "CC-BY-NC-4.0"


def test_a_voice_that_is_silent_is_no_release(data):
    piper(data, loud=0.0)
    folder, said = make(data, "train_piper", expect=70)
    assert "does not speak" in said and "silence" in said and not folder.exists()


@pytest.mark.parametrize(
    ("data_licence", "base", "inherited"),
    [
        ("CC0-1.0", None, "CC0-1.0"),
        ("CC-BY-4.0", "MIT", "CC-BY-4.0"),
        ("CC0-1.0", "CC-BY-NC-4.0", "CC-BY-NC-4.0"),
        ("CC-BY-SA-4.0", "CC-BY-4.0", "CC-BY-SA-4.0"),
    ],
)
def test_the_stricter_licence_is_inherited(data_licence, base, inherited):
    assert package.licence_of_voice(data_licence, base, base is not None) == inherited


@pytest.mark.parametrize(
    ("data_licence", "base"), [(None, None), ("CC-BY-ND-4.0", None), ("CC0-1.0", "CC-BY-NC-ND-4.0")]
)
def test_licences_that_allow_no_voice(data_licence, base):
    with pytest.raises(ConfigError):
        package.licence_of_voice(data_licence, base, base is not None)


@pytest.mark.parametrize(
    ("language", "code"),
    [("en", "en_US"), ("de", "de_DE"), ("en-gb", "en_GB"), ("pt_BR", "pt_BR"), ("uk", "uk_UA"), ("hsn", "hsn")],
)
def test_language_codes(language, code):
    assert package.full_code(language) == code
