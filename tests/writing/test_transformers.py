"""The transformers engine on a tiny Llama with random weights: batched is the same as one by one."""

import pytest
from tiny_llama import tiny_llama

from voxmake.errors import Failure
from voxmake.writing.engine import EngineError, Text, TextRequest, seed_of
from voxmake.writing.transformers import Transformers

SPEC = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 64, "tries": 2}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def requests(count):
    return [TextRequest(f"i{n}", "Be brief.", "Say " + "word " * n, seed_of(3, f"i{n}", 1)) for n in range(count)]


def test_batched_is_unbatched(llama):
    engine = Transformers(str(llama), SPEC)
    together = engine.generate(requests(6))
    assert together == [engine.generate([one])[0] for one in requests(6)]
    assert together == engine.generate(requests(6)[::-1])[::-1]
    texts = [answer.text for answer in together if isinstance(answer, Text)]
    assert len(set(texts)) > 3
    other = [TextRequest(one.id, one.system, one.prompt, one.seed + 1000) for one in requests(6)]
    assert engine.generate(other) != together


def test_cut_short_and_too_long_are_errors(llama):
    [short] = Transformers(str(llama), SPEC | {"max_tokens": 1}).generate(requests(1))
    assert short == EngineError("no_text", "cut short at max_tokens")
    long = TextRequest("long", "", "word " * 2000, 1)
    good, bad = Transformers(str(llama), SPEC).generate([requests(3)[2], long])
    assert isinstance(good, Text | EngineError)
    assert bad.kind == "no_text" and "do not fit the model's" in bad.detail


def test_a_model_without_chat_template(llama, tmp_path):
    from transformers import AutoTokenizer

    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (tmp_path / name).write_bytes((llama / name).read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(Failure, match="no chat template"):
        Transformers(str(tmp_path), SPEC)
