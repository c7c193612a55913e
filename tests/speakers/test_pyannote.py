"""pyannote.audio's own classes and file format, with tiny random weights; and code in a checkpoint is never run."""

import os
import pickle
import warnings

import numpy as np
import pytest
import yaml

from voxmake.errors import ConfigError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pyannote.audio", reason="needs docker/setup.py --group pyannote")

RATE_HZ = 16000


def save(model, folder):
    """As Lightning saves a pyannote model."""
    import torch

    folder.mkdir(parents=True)
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.6.0",
        "epoch": 0,
        "global_step": 0,
    }
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "pytorch_model.bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline as speaker-diarization-community-1 is laid out."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import WeSpeakerResNet34
    from pyannote.audio.models.segmentation import PyanNet

    root = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    lstm = {"hidden_size": 8, "num_layers": 1, "bidirectional": True, "monolithic": True, "dropout": 0.0}
    segmentation = PyanNet(lstm=lstm, linear={"hidden_size": 8, "num_layers": 1})
    segmentation.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION, resolution=Resolution.FRAME, duration=2.0, classes=["a", "b", "c"],
        powerset_max_classes=2, permutation_invariant=True,
    )  # fmt: skip
    segmentation.build()
    save(segmentation, root / "segmentation")
    embedding = WeSpeakerResNet34()
    embedding.specifications = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=2.0)
    embedding.build()
    save(embedding, root / "embedding")
    rng, size = np.random.default_rng(0), embedding.dimension
    (root / "plda").mkdir()
    lda = np.linalg.qr(rng.standard_normal((size, 128)))[0]
    np.savez(root / "plda/xvec_transform.npz", mean1=np.zeros(size), mean2=np.zeros(128), lda=lda)
    np.savez(root / "plda/plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(2, 0.1, 128))
    params = {"clustering": "VBxClustering", "embedding_exclude_overlap": True, "segmentation_step": 0.5}
    params |= {part: f"$model/{part}" for part in ("segmentation", "embedding", "plda")}
    config = {
        "version": "4.0.0",
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": params},
        "params": {"clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}, "segmentation": {"min_duration_off": 0.0}},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


def noise(seconds):
    return (np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ)) * 0.1).astype(np.float32)


def test_embedding(folder):
    from voxmake.speakers import embed

    embedder = embed.load("pyannote", str(folder / "embedding"))
    first, again = embedder.embed(noise(2)), embedder.embed(noise(2))
    assert first.shape == (256,)
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(first, again)


def test_turns_become_utterances(folder, tmp_path):
    import soundfile

    from segment import Segment
    from voxmake.audio.segmenting import Cutter

    soundfile.write(tmp_path / "a.wav", noise(6), RATE_HZ, subtype="PCM_16")
    cutter = Cutter(Segment(method="pyannote", model=str(folder), max_duration_s=4))
    turns = cutter.turns.find(noise(6), RATE_HZ)
    assert turns
    assert all(0 <= a < b <= 6.1 for a, b in turns)
    segments, _ = cutter.find(tmp_path / "a.wav")
    assert all(b - a <= 4.3 * RATE_HZ for a, b in segments)
    assert sum(b - a for a, b in segments) == pytest.approx(sum(b - a for a, b in turns) * RATE_HZ, rel=0.15)


def test_telemetry_is_off_and_the_hub_is_not_asked(folder):
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    from voxmake.speakers.pyannote import Turns

    with pytest.raises(ConfigError, match="is not there; download the model"):
        Turns("pyannote/speaker-diarization-community-1")


class Code:
    """What a malicious checkpoint holds."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    import torch

    from voxmake.speakers.pyannote import Embedder

    monkeypatch.chdir(tmp_path)
    torch.save({"pyannote.audio": Code(), "state_dict": {}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError, match=r"(?i)weights.?only"):
        Embedder(str(tmp_path))
    assert not (tmp_path / "was_run").exists()
