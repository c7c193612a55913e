"""Voices with random weights or none, small enough to be made by a test."""

import json
from pathlib import Path

LETTERS = " abcdefghijklmnopqrstuvwxyz'-"


def tiny_mms(folder: Path) -> Path:
    """A VITS of transformers with a tokenizer of letters, as `save_pretrained` writes it."""
    import torch
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(LETTERS)}))
    tokenizer = VitsTokenizer(folder / "vocab.json", pad_token=" ", unk_token="-", phonemize=False, is_uroman=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, flow_size=16,
        spectrogram_bins=9, prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1, duration_predictor_num_flows=1, duration_predictor_filter_channels=16,
        depth_separable_num_layers=1, upsample_initial_channel=32, upsample_rates=[8, 8], upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]], sampling_rate=16000, wavenet_dilation_rate=1,
    )  # fmt: skip
    VitsModel(config).save_pretrained(folder)
    return folder


def tiny_piper(folder: Path) -> Path:
    """A voice of Piper's format: every phoneme is 100 ms of noise from the graph's own generator, two speakers."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["phonemes"], axis=0),
        helper.make_node("Mul", ["phonemes", "hop"], ["samples"]),
        helper.make_node("Concat", ["ones", "ones", "samples"], ["whole"], axis=0),
        helper.make_node("ConstantOfShape", ["whole"], ["silence"]),
        helper.make_node("RandomNormalLike", ["silence"], ["noise"], scale=0.1),
        helper.make_node("Gather", ["scales", "one"], ["length"], axis=0),
        helper.make_node("Cast", ["sid"], ["speaker"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["speaker", "length"], ["louder"]),
        helper.make_node("Mul", ["noise", "louder"], ["output"]),
        helper.make_node("Identity", ["input_lengths"], ["unused"]),
    ]
    graph = helper.make_graph(
        nodes,
        "voice",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
            helper.make_tensor_value_info("sid", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, "time"]),
            helper.make_tensor_value_info("unused", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("ones", TensorProto.INT64, [1], [1]),
            helper.make_tensor("hop", TensorProto.INT64, [1], [1600]),
        ],
    )
    path = folder / "voice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    characters = "_^$ " + "abcdefghijklmnopqrstuvwxyz.,!?'"
    facts = {
        "audio": {"sample_rate": 16000, "quality": "x"}, "espeak": {"voice": "en-us"}, "phoneme_type": "text",
        "inference": {"noise_scale": 0.6, "length_scale": 1.0, "noise_w": 0.8}, "num_symbols": 64, "num_speakers": 2,
        "speaker_id_map": {"ann": 0, "ben": 1}, "phoneme_id_map": {c: [n] for n, c in enumerate(characters)},
        "phoneme_map": {}, "language": {"code": "en_US"}, "piper_version": "1.0.0",
    }  # fmt: skip
    (folder / "voice.onnx.json").write_text(json.dumps(facts))
    return path
