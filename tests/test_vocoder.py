"""train_vocoder.py and evaluate_vocoder.py from the command line: a tiny vocoder of tiny recordings, and its test."""

import csv
import json
import os
import subprocess
import sys

import pytest
import soundfile
from conftest import ROOT, voice

for _package in ("pysptk", "pyworld", "pesq", "pystoi"):
    pytest.importorskip(_package, reason="not installed: docker/setup.py --group vocoder")

TINY = (
    "{dim: 24, layers: 3, front_layers: 1, embedding: 8, fft: 640, periods: [2], resolutions: [256], speakers: true, "
    "discriminator_width: 0.0625, epochs: 2, batch_size: 4, samples_per_epoch: 32, crop_units: 16, mel_only_steps: 12, "
    "lr: 3.0e-3, save_every: 1, test_clips: 2, validation_s: 1.0}"
)


def script(project, name, *flags, expect=0, data="data"):
    command = [sys.executable, ROOT / f"scripts/{name}.py", "--config", project / "x.yaml", *flags]
    environment = os.environ | {"VOXMAKE_DATA": str(project / data), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == expect, done.stderr
    return done.stderr


def result(project, name):
    return (project / "data/projects/test" / name).resolve()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocoder")
    (folder / "recordings").mkdir()
    for number in range(20):
        samples = voice(1 + 0.05 * number, seed=number)
        soundfile.write(folder / f"recordings/c{number:02}.wav", samples, 16000, subtype="PCM_16")
    (folder / "x.yaml").write_text(
        f"extends: {ROOT / 'configs/base.yaml'}\nproject: test\nstages: [evaluate_vocoder]\n"
        f"collect: {{sources: [{{path: '{folder / 'recordings'}'}}]}}\nsegment: {{method: none}}\n"
        f"units: {{clusters: 12}}\nvocoder: {TINY}\nexecution: {{workers: 1, progress: none}}\n"
    )
    for name in ("collect", "preprocess", "encode_units", "train_vocoder"):
        script(folder, name)
    return folder


def test_what_training_publishes(trained):
    path = result(trained, "train_vocoder")
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert names == {
        "vocoder_final.safetensors", "vocoder_final.json", "vocoder_latest.safetensors", "vocoder_latest.json",
        "vocoder_epoch_0001.safetensors", "vocoder_epoch_0001.json", "sample_epoch_0001.wav",
        "vocoder_epoch_0002.safetensors", "vocoder_epoch_0002.json", "sample_epoch_0002.wav", "training_log.json",
        "tensorboard/events.out.tfevents.0000000000.voxmake", "split.csv", "rejected.csv", "stats.json", "run.json",
        "run.log", "MANIFEST.sha256",
    }  # fmt: skip
    with (path / "split.csv").open() as stream:
        parts = [row["part"] for row in csv.DictReader(stream)]
    assert (parts.count("train"), parts.count("validation"), parts.count("test")) == (16, 2, 2)
    kmeans = json.loads((result(trained, "encode_units") / "kmeans.json").read_text())
    assert json.loads((path / "vocoder_final.json").read_text())["tokeniser"] == kmeans["tokeniser"]
    assert json.loads((path / "stats.json").read_text())["validation_fall"]["value"] > 0.3
    assert soundfile.info(path / "sample_epoch_0001.wav").samplerate == 16000


def test_evaluation_and_its_page(trained, visit):
    # So small a vocoder may lose to another utterance: then the gate says so, and all is there all the same.
    command = [sys.executable, ROOT / "scripts/evaluate_vocoder.py", "--config", trained / "x.yaml"]
    environment = os.environ | {"VOXMAKE_DATA": str(trained / "data")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in (0, 1), done.stderr
    path = (
        result(trained, "evaluate_vocoder")
        if done.returncode == 0
        else next(
            run
            for run in (trained / "data/runs/evaluate_vocoder").iterdir()
            if run.is_dir() and not run.name.startswith(".")
        )
    )
    assert (done.returncode == 1) == ("gate FAIL" in done.stderr)
    with (path / "files.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 6 and {row["system"] for row in rows} == {
        "vocoder", "world", "griffin_lim", "another", "noise", "silence",
    }  # fmt: skip
    for row in rows:
        assert row["mcd_db"] and row["log_mel_l1"] and row["unit_error"]
        if row["system"] == "vocoder":
            assert float(row["length_ratio"]) == 1
            pair = [soundfile.info(path / f"{side}_{row['number']}.wav") for side in ("orig", "synth")]
            assert pair[0].frames == pair[1].frames and pair[0].frames % 320 == 0
    gated = {check["name"] for check in json.loads((path / "run.json").read_text())["gate"]["checks"]}
    assert "mcd_db_against_another_utterance" in gated and not any("snr" in name for name in gated)
    systems = json.loads((path / "test_results.json").read_text())["systems"]
    assert systems["world"]["mcd_db"]["files"] == 2 and systems["vocoder"]["wer"] is None

    page = visit(path / "index.html")
    assert page.locator("article").count() == 2
    assert "LEGACY" in page.inner_text("table")
    page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.duration > 0.9)")
    page.locator("article img").last.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('img')].every(i => i.naturalWidth > 300)")


def test_units_of_another_tokeniser_are_refused(trained):
    script(trained, "encode_units", "--set", "units.clusters=13", "--output", trained / "other")
    given = (
        "--input",
        f"encode_units={trained / 'other'}",
        "--input",
        f"train_vocoder={result(trained, 'train_vocoder')}",
    )
    told = script(trained, "evaluate_vocoder", *given, expect=65)
    assert "give the units it was trained on, or train a vocoder on these" in told


def test_upsampling_must_make_the_hop(trained):
    flags = [flag for key in ("generator=hifigan", "upsample_rates=[5,4,4,2]") for flag in ("--set", f"vocoder.{key}")]
    told = script(trained, "train_vocoder", *flags, expect=2)
    assert "vocoder.upsample_rates: make 160 samples of a unit, the tokeniser has 320" in told


def test_torchrun_trains_one_run(trained):
    """Two processes of a CPU: one run is published, and the second start finds it done."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        ROOT / "scripts/train_vocoder.py", "--config", trained / "x.yaml", "--set", "vocoder.epochs=1",
    ]  # fmt: skip
    environment = os.environ | {
        "VOXMAKE_DATA": str(trained / "data"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    for told in ("train_vocoder: 20 in, 20 out, 0 rejected", "is done already"):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
        assert done.returncode == 0 and told in done.stderr, done.stderr


@pytest.mark.slow
def test_the_demo_from_units_to_a_tested_vocoder(tmp_path):
    """Motifs compress, the validation falls by a third, and on no measure is another utterance nearer (exit code 0)."""
    environment = os.environ | {"VOXMAKE_DATA": str(tmp_path)}
    names = ("collect", "preprocess", "segment", "encode_units", "discover_motifs", "train_vocoder", "evaluate_vocoder")
    for name in names:
        command = [sys.executable, ROOT / f"scripts/{name}.py", "--config", ROOT / "configs/demo.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    found = {name: json.loads((tmp_path / f"projects/demo/{name}/stats.json").read_text()) for name in names}
    assert found["discover_motifs"]["compression"]["value"] > 1.5
    assert found["train_vocoder"]["validation_fall"]["value"] > 0.3
    assert found["train_vocoder"]["collapse_alarms"]["value"] == 0
    assert found["evaluate_vocoder"]["mcd_db"]["value"] < 8 and found["evaluate_vocoder"]["stoi"]["value"] > 0.6
