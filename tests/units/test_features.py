"""Features: one geometry, MFCC as they should be, and hidden states equal to the whole model's, in any batch."""

import json

import numpy as np
import pytest
from conftest import voice

from voxmake.errors import ConfigError
from voxmake.units.features import RATE_HZ, FeatureSpec, Grid, Mfcc, Transformer, levels_db, model_grid

TINY = dict(
    hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
)  # fmt: skip


def save_model(folder, kind, norm, stable, normalise=True, **more):
    """Tiny random weights, saved as transformers saves them."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**TINY | more, feat_extract_norm=norm, do_stable_layer_norm=stable)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        do_normalize=normalise, return_attention_mask=norm == "layer"
    ).save_pretrained(folder)
    return model


KINDS = [
    ("Wav2Vec2", "layer", True),  # XLSR-53 and large models
    ("Wav2Vec2", "group", False),  # base
    ("Hubert", "layer", True),
    ("Hubert", "group", False),
    ("WavLM", "layer", True),
    ("WavLM", "group", False),
]


@pytest.mark.parametrize(("kind", "norm", "stable"), KINDS)
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_hidden_states_are_those_of_the_whole_model(tmp_path, kind, norm, stable, layer):
    import torch
    from transformers import AutoFeatureExtractor

    model = save_model(tmp_path, kind, norm, stable)
    samples = 3 * voice(0.7) + 0.2
    inputs = AutoFeatureExtractor.from_pretrained(tmp_path)(samples, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(inputs.input_values, output_hidden_states=True).hidden_states[layer][0].numpy()
    engine = Transformer(str(tmp_path), layer)
    found = engine.encode([samples])[0]
    assert found.shape == (engine.grid.frames(len(samples)), engine.dims) == (34, 16)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_layer_14_of_a_model_built_like_xlsr_53(tmp_path):
    """24 layers, layer normalisation in the features, normalised waveform: hidden_states[14] of the whole model."""
    import torch
    from transformers import AutoFeatureExtractor

    model = save_model(tmp_path, "Wav2Vec2", "layer", True, num_hidden_layers=24)
    samples = 3 * voice(0.7) + 0.2
    inputs = AutoFeatureExtractor.from_pretrained(tmp_path)(samples, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        states = model(inputs.input_values, output_hidden_states=True).hidden_states
    assert len(states) == 25
    engine = Transformer(str(tmp_path), 14)
    assert len(engine.model.encoder.layers) == 14 + 1  # the last one only catches
    found = engine.encode([samples])[0]
    np.testing.assert_allclose(found, states[14][0].numpy(), atol=2e-5)
    assert np.abs(found - states[13][0].numpy()).max() > 1e-3 < np.abs(found - states[15][0].numpy()).max()


@pytest.mark.parametrize(("kind", "norm", "stable"), KINDS)
def test_a_batch_of_8_gives_what_a_batch_of_1_gives(tmp_path, kind, norm, stable):
    save_model(tmp_path, kind, norm, stable)
    lengths_s = (0.31, 0.9, 0.45, 0.45, 0.7, 0.025, 0.45, 1.2)
    clips = [voice(seconds, seed=number) for number, seconds in enumerate(lengths_s)]
    single, batched = Transformer(str(tmp_path), 2), Transformer(str(tmp_path), 2, batch=8)
    calls = []
    run = batched._hidden
    batched._hidden = lambda batch: calls.append(len(batch)) or run(batch)
    for one, other in zip(single.encode(clips), batched.encode(clips), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    # Without a mask only equal lengths may share a batch: padding would change the normalisation over time.
    assert sorted(calls) == ([8] if norm == "layer" else [1, 1, 1, 1, 1, 3])


def test_layers_above_are_neither_kept_nor_run(tmp_path):
    whole = save_model(tmp_path, "Wav2Vec2", "layer", True)
    engine = Transformer(str(tmp_path), 2)
    assert len(engine.model.encoder.layers) == 3  # two, and the one that catches
    assert sum(p.numel() for p in engine.model.parameters()) < sum(p.numel() for p in whole.parameters())
    with pytest.raises(ConfigError, match="has 4 layers"):
        Transformer(str(tmp_path), 5)


def test_normalisation_follows_the_feature_extractor(tmp_path):
    save_model(tmp_path / "yes", "Wav2Vec2", "layer", True)
    save_model(tmp_path / "no", "Wav2Vec2", "layer", True, normalise=False)
    clip = voice(0.5)
    yes, no = (Transformer(str(tmp_path / name), 2) for name in ("yes", "no"))
    np.testing.assert_allclose(yes.encode([clip])[0], yes.encode([4 * clip])[0], atol=1e-4)
    assert np.abs(no.encode([clip])[0] - yes.encode([clip])[0]).max() > 1e-3


def test_a_long_clip_goes_through_in_windows(tmp_path):
    save_model(tmp_path, "Wav2Vec2", "layer", True)
    engine = Transformer(str(tmp_path), 2, batch=4, window_s=2.0)
    clip = voice(7.33)
    windows = engine._windows(0, clip)
    assert [window.keep for window in windows] == [100, 100, 100, 66]
    assert max(len(window.samples) for window in windows) <= 4.1 * RATE_HZ
    found = engine.encode([clip, voice(0.5)])
    assert [len(part) for part in found] == [engine.grid.frames(len(clip)), 24]
    whole = Transformer(str(tmp_path), 0, window_s=60).encode([clip])[0]
    cut = Transformer(str(tmp_path), 0, window_s=2.0).encode([clip])[0]
    np.testing.assert_allclose(cut, whole, atol=2e-5)  # below attention a second of context is enough


def test_the_grid_is_that_of_the_convolutions(tmp_path):
    save_model(tmp_path, "Wav2Vec2", "layer", True)
    assert model_grid(str(tmp_path)) == Grid(320, 400) == Mfcc.grid
    assert Grid(320, 400).time_s(4_320_000) == 86400.0  # a day: no drift
    assert Grid(320, 400).centre_s == 0.0125


def test_mfcc():
    clip = voice(1.0)
    raw = Mfcc("none").encode([clip])[0]
    assert raw.shape == (49, 39) and raw.dtype == np.float32
    # Louder: only the first cepstrum moves, by the orthonormal DCT's sqrt(40) * ln(gain²).
    moved = Mfcc("none").encode([2 * clip])[0] - raw
    np.testing.assert_allclose(moved[:, 0], np.sqrt(40) * np.log(4), rtol=1e-3)
    np.testing.assert_allclose(moved[:, 1:13], 0, atol=1e-3)
    scaled = Mfcc("clip").encode([clip])[0]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[:, 0].std(), 1, atol=1e-3)
    # A slope is the line's own: the cepstra of a tone that grows by 1 dB a hop rise by a constant.
    t = np.arange(RATE_HZ) / RATE_HZ
    growing = (1e-3 * 10 ** (t * 50 / 20) * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    tone = Mfcc("none").encode([growing])[0]
    np.testing.assert_allclose(tone[10:30, 13], np.diff(tone[:, 0])[10:30].mean(), rtol=1e-2)
    np.testing.assert_allclose(tone[10:30, 26], 0, atol=2e-2)


def test_levels():
    samples = np.concatenate([np.zeros(320), np.full(480, 0.1)]).astype(np.float32)
    np.testing.assert_allclose(levels_db(samples, Mfcc.grid), [-100, -20], atol=1e-3)


def test_the_spec_in_words():
    spec = FeatureSpec("transformers", "clip", 14, 20.0, "float32", "float16")
    assert "hidden_states" in json.dumps(spec.convention)
    assert "layer" not in FeatureSpec("mfcc", "clip", 14, 20.0, "float32", "float16").convention
