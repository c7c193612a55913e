"""Real loading and real decoding: of tiny random Whisper models in each engine's own format, and of pocketsphinx."""

import numpy as np
import pytest
import soundfile
import tiny_whisper
from conftest import ROOT

from voxmake.asr import engines
from voxmake.asr.batches import Batches, read_clip, windows
from voxmake.errors import ConfigError, Failure, Rejected


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function that gives the tiny model of an engine, made once."""
    made = {}

    def model(engine):
        if engine == "faster-whisper":
            pytest.importorskip("faster_whisper")
        if engine not in made:
            folder = tmp_path_factory.mktemp(engine)
            make = {"whisper": tiny_whisper.openai, "transformers": tiny_whisper.transformers}
            made[engine] = str(make.get(engine, tiny_whisper.faster)(folder))
        return made[engine]

    return model


WHISPERS = ["whisper", "transformers", "faster-whisper"]


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("engine", WHISPERS)
def test_a_batch_changes_nothing(models, engine, beam_size):
    recogniser = engines.load(engine, models(engine), beam_size, "float32")
    languages = ["en", "en", ""] if engine == "faster-whisper" else ["en", "de", ""]
    clips = list(zip(tiny_whisper.clips(9), languages * 3, strict=True))
    alone, by_four, by_eight = (list(Batches(recogniser, size).hear(clips)) for size in (1, 4, 8))
    assert alone == by_four == by_eight
    assert len({heard.text for heard in alone}) >= 6  # it listens, and does not babble the same for all
    if engine != "faster-whisper":
        assert all(0 < heard.probability <= 1 and len(heard.language) == 2 for heard in alone)
    shuffled = [clips[index] for index in (7, 3, 0, 5)]
    assert list(Batches(recogniser, 4).hear(shuffled)) == [alone[index] for index in (7, 3, 0, 5)]


@pytest.mark.parametrize("engine", ["whisper", "transformers"])
def test_models_of_english_alone(tmp_path, engine):
    make = {"whisper": tiny_whisper.openai, "transformers": tiny_whisper.transformers}[engine]
    recogniser = engines.load(engine, str(make(tmp_path, multilingual=False)), 1, "float32")
    (sound,) = tiny_whisper.clips(1)
    first, second = Batches(recogniser, 2).hear([(sound, "en"), (sound, "de")])
    assert first.text and first.language == "" and first.probability is None
    assert second.reason == "language_not_known"


@pytest.mark.parametrize("engine", WHISPERS)
def test_a_clip_longer_than_the_window(models, engine):
    recogniser = engines.load(engine, models(engine), 1, "float32")
    long = np.concatenate(tiny_whisper.clips(20))
    assert len(long) > 30 * engines.RATE_HZ
    (heard,) = Batches(recogniser, 4).hear([(long, "en")])
    parts = [piece.text for piece in Batches(recogniser, 1).hear([(each, "en") for each in windows(long, 30.0)])]
    assert heard.text == " ".join(parts)


def test_windows_are_cut_where_it_is_quiet():
    sound = np.ones(50 * engines.RATE_HZ, np.float32)
    sound[27 * engines.RATE_HZ : 28 * engines.RATE_HZ] = 0
    pieces = windows(sound, 30.0)
    assert np.array_equal(np.concatenate(pieces), sound)
    assert 27 <= len(pieces[0]) / engines.RATE_HZ <= 28
    assert len(windows(sound, None)) == len(windows(sound[: 30 * engines.RATE_HZ], 30.0)) == 1


class Scarce:
    """An engine with memory for two clips. Says how many it was given at once."""

    window_s = None

    def __init__(self, room):
        self.room, self.sizes = room, []

    def recognise(self, clips, language):
        self.sizes.append(len(clips))
        if len(clips) > self.room:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [engines.Heard(str(len(clip))) for clip in clips]


def test_a_batch_too_large_for_the_memory_is_halved_and_stays_so():
    engine = Scarce(room=2)
    clips = [(np.zeros(number), "en") for number in range(12)]
    assert [heard.text for heard in Batches(engine, 8).hear(clips)] == [str(number) for number in range(12)]
    assert engine.sizes == [8, 4, 2, 2, 2, 2, 2, 2]
    (heard,) = Batches(Scarce(room=0), 8).hear(clips[:1])
    assert heard.reason == "memory_limit"


def test_short_memory_changes_no_result(models):
    recogniser = engines.load("transformers", models("transformers"), 3, "float32")
    clips = [(clip, "en") for clip in tiny_whisper.clips(7)]
    whole, hear, sizes = list(Batches(recogniser, 8).hear(clips)), recogniser.recognise, []

    def scarce(batch, language):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return hear(batch, language)

    recogniser.recognise = scarce
    assert list(Batches(recogniser, 8).hear(clips)) == whole
    assert sizes == [7, 3, 3, 1]


def test_other_errors_of_an_engine_are_not_taken_for_a_lack_of_memory():
    class Broken:
        window_s = None

        def recognise(self, clips, language):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        list(Batches(Broken(), 2).hear([(np.zeros(9), "")]))


def test_pocketsphinx_hears_english_and_nothing_else():
    recogniser = engines.load("pocketsphinx", None, 5, "float32")
    clip = read_clip(ROOT / "data/demo/recordings/slt/slt_000.flac")
    heard, silence, short, german = Batches(recogniser, 4).hear(
        [(clip, "en"), (np.zeros(16000, np.float32), ""), (clip[:800], "en"), (clip, "de")]
    )
    assert len(heard.text.split()) > 4
    assert short.text == ""
    assert isinstance(silence, engines.Heard)
    assert german.reason == "language_not_known" and "de" in german.detail
    assert list(Batches(recogniser, 1).hear([(clip, "en")])) == [heard]  # what came before leaves no trace


def test_clips_are_read_at_the_rate_of_the_engines(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(np.sin(np.arange(48000) / 20), (2, 1)).T, 48000)
    assert read_clip(tmp_path / "a.wav").shape == (16000,)
    with pytest.raises(Rejected, match="missing_file"):
        read_clip(tmp_path / "b.wav")
    (tmp_path / "c.wav").write_bytes(b"no audio")
    with pytest.raises(Rejected, match="undecodable"):
        read_clip(tmp_path / "c.wav")


def test_a_type_of_number_that_the_engine_has_not(models):
    for engine, number in (("whisper", "bfloat16"), ("transformers", "int8")):
        with pytest.raises(Failure, match="compute_type"):
            engines.load(engine, models(engine), 1, number)


def spec(**keys):
    from voxmake.asr.spec import Validate

    return Validate.model_validate(keys)


def test_the_engine_is_told_by_the_model(models, tmp_path, monkeypatch):
    from voxmake.asr.spec import chosen_engine

    assert chosen_engine(spec()) == "pocketsphinx"
    assert chosen_engine(spec(model=models("whisper"))) == "whisper"
    assert chosen_engine(spec(model=models("transformers"))) == "transformers"
    (tmp_path / "model.bin").touch()
    assert chosen_engine(spec(model=str(tmp_path))) == "faster-whisper"
    with pytest.raises(ConfigError, match=r"config\.json"):
        chosen_engine(spec(model=str(tmp_path), engine="transformers"))
    with pytest.raises(ConfigError, match="not there"):
        chosen_engine(spec(model=str(tmp_path / "large-v3")))
    for keys in ({"engine": "whisper"}, {"engine": "pocketsphinx", "model": "x"}, {"language": "Deutsch!"}):
        with pytest.raises(ValueError, match=r"engine|language"):
            spec(**keys)


def test_a_pt_file_is_loaded_only_with_its_sha256(models, tmp_path, monkeypatch):
    from voxmake.asr.spec import model_digest
    from voxmake.run.digest import file_sha256

    monkeypatch.setenv("VOXMAKE_DATA", str(tmp_path))
    model = models("whisper")
    with pytest.raises(ConfigError, match=r"not pinned: it is [0-9a-f]{64}"):
        model_digest(spec(model=model))
    with pytest.raises(ConfigError, match="is not aaaa"):
        model_digest(spec(model=model, model_sha256="a" * 64))
    from pathlib import Path

    digest = file_sha256(Path(model))
    assert model_digest(spec(model=model, model_sha256=digest)) == digest
    assert len(model_digest(spec(model=models("transformers")))) == 64
    assert model_digest(spec()) is None


def test_a_pt_file_with_code_in_it_is_refused(tmp_path):
    import pickle

    class Code:
        def __reduce__(self):
            return print, ("code runs",)

    import torch

    torch.save({"dims": {}, "model_state_dict": Code()}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        engines.load("whisper", str(tmp_path / "evil.pt"), 1, "float32")
