"""The guidance block, the embedded writer and refiner, and the rule that says when to stop."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import ROOT
from test_losses import DOCUMENT, REFERENCE, WEIGHTS

from voxmake.calibration import guidance, losses, refine, segments, writer
from voxmake.calibration.loop import Course, noise_floor, stop_reason
from voxmake.calibration.trials import Trial, gain
from voxmake.calibration.words import words
from voxmake.errors import ConfigError
from voxmake.writing.grammar import Grammar

TEMPLATE = (ROOT / "configs/prompts/podcast.j2").read_text()
NOW = guidance.parse(guidance.block_of(TEMPLATE))
GRAMMAR = writer.read_grammar(ROOT / "configs/prompts/podcast_grammar.yaml")
PROFILE = {
    "duration_s": 60.0,
    "order": ["problem", "finding", "method", "limitation"],
    "shares": {"problem": 0.3, "method": 0.3, "finding": 0.3, "limitation": 0.1},
}


def test_only_the_block_changes():
    changed = guidance.with_block(TEMPLATE, "Length: 1.")
    assert changed.replace("Length: 1.", guidance.block_of(TEMPLATE)) == TEMPLATE
    assert guidance.parse(NOW.text()) == NOW
    assert guidance.block_of(guidance.with_block(TEMPLATE, r"a \1 b")) == r"a \1 b"  # no pattern of re.sub
    with pytest.raises(ConfigError, match="has 0"):
        guidance.block_of("no block")


@pytest.mark.parametrize(
    ("line", "other", "told"),
    [
        ("Length: 2.1 words", "Length: some words", "Length: has no number"),
        ("Order: intro,", "Order: intro, intro,", "takes each once"),
        ("Depth: intro 1,", "Depth: intro much,", "'intro much'"),
        ("Concepts:", "Thoughts:", "no line 'Concepts'"),
    ],
)
def test_a_block_that_the_embedded_writer_cannot_read(line, other, told):
    with pytest.raises(ConfigError, match=told):
        guidance.parse(NOW.text().replace(line, other))


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("", "empty"),
        (NOW.text(), "was there"),
        ("Say more. " * 400, "longer"),
        ("Length: {{ 7 * 7 }}", "marks"),
        ("End with: old bridges rust where nobody can see it.", "quotes a reference: 'bridges rust where nobody can'"),
        ("Old bridges rust where others see it.", ""),  # four words in a row are no quote
    ],
)
def test_blocks_that_are_refused(block, told):
    why = guidance.refusal(block, NOW.text(), [words(REFERENCE)])
    assert told in why
    assert bool(told) == bool(why)


def script(guide, seed=1):
    return writer.write("x", DOCUMENT, guide, PROFILE, GRAMMAR, Grammar(), seed)


def test_the_writer_does_what_the_guidance_says():
    short, long = script(replace(NOW, words_per_s=0.5)), script(replace(NOW, words_per_s=4.0))
    assert len(words(short)) < len(words(long))
    turned = script(replace(NOW, order=("limitation", "problem")))
    assert turned.index("Rain") < turned.index("Old bridges")
    assert "drone took photographs" not in turned.lower()
    deep = replace(NOW, words_per_s=0.6, depth={"method": 5.0, "finding": 0.2})
    assert len(words(script(deep))) <= 60
    assert "A program compared the photographs of two years." in script(deep)
    assert script(NOW) == script(NOW)
    assert len({script(NOW, seed) for seed in range(5)}) > 1  # the noise that is measured


def test_the_writer_says_only_what_the_paper_says():
    said = {sentence for section in DOCUMENT["sections"] for sentence in section["sentences"]}
    leads = {line for lines in GRAMMAR.values() for line in lines}
    for paragraph in script(NOW).strip().split("\n\n"):
        for sentence in segments.sentences(paragraph):
            assert (
                sentence in said
                or any(sentence in lead for lead in leads)
                or DOCUMENT["title"].lower() in sentence.lower()
            )


def test_long_sentences_are_divided():
    text = "We built a bridge of stone and wood, and our neighbours built a bridge of iron (see the map)."
    assert writer._spoken(text, 12) == (
        "They built a bridge of stone and wood. And their neighbours built a bridge of iron."
    )


@pytest.mark.parametrize("component", losses.COMPONENTS)
def test_moves_are_neighbours(component):
    found = guidance.moves(NOW, component, PROFILE, 0.5)
    assert found
    for one in found.values():
        assert one != NOW
        assert guidance.parse(one.text()) == one  # what is tried is what stands in the prompt


def test_the_search_counts_what_the_writer_would_lose():
    pair = {
        "id": "x", "document": DOCUMENT, "structure": segments.script_structure(REFERENCE, DOCUMENT), "text": REFERENCE,
        "duration_s": 30.0, "seed": 1, "s_per_word": 0.4,
    }  # fmt: skip
    asked = refine.Try([pair], PROFILE, GRAMMAR, WEIGHTS)
    far = asked({"block": replace(NOW, words_per_s=8.0).text()}, None)["total"]
    near = asked({"block": replace(NOW, words_per_s=1.2, order=tuple(PROFILE["order"])).text()}, None)["total"]
    assert near < far


# ---------------------------------------------------------------------------- the loop's rules


def trial(name, duration, coverage=0.2, pairs=("a", "b")):
    known = {"duration": duration, "coverage": coverage, "structure": 0.0, "quality": 0.0, "rouge": 0.0}
    found = {key: {"components": known, "total": losses.total_loss(known, WEIGHTS)[0]} for key in pairs}
    return Trial(name, TEMPLATE, None, found)


def course(*durations, floor=0.01):
    trials = [trial(f"trial_{number:03}", duration) for number, duration in enumerate(durations)]
    best = [min(range(at + 1), key=lambda one: (durations[one], one)) for at in range(len(trials))]
    return Course(trials, best, {"floor": floor})


SPEC = SimpleNamespace(max_trials=5, patience=2, min_gain=0.05, weights=WEIGHTS)


@pytest.mark.parametrize(
    ("durations", "floor", "told"),
    [
        ((0.8,), 0.01, ""),
        ((0.8, 0.8), 0.01, ""),  # two trials have to be behind it
        ((0.8, 0.7, 0.6), 0.01, ""),  # 0.25 -> 0.20: 20 % better
        ((0.8, 0.79, 0.78), 0.001, "2.0 %"),  # 0.25 -> 0.245
        ((0.8, 0.7, 0.6), 0.06, "noise floor"),  # 20 % better, and within the noise all the same
        ((0.8, 0.9, 0.9), 0.0, "noise floor"),
        ((0.8, 0.4, 0.3, 0.2, 0.1), 0.01, "5 trials"),
        ((0.8, 0.4, 0.4, 0.39), 0.001, "%"),  # the last two count, not the first
    ],
)
def test_when_it_stops(durations, floor, told):
    reason = stop_reason(course(*durations, floor=floor), SPEC)
    assert told in reason
    assert bool(told) == bool(reason)


def test_the_noise_floor():
    assert noise_floor([0.30, 0.32, 0.31]) == pytest.approx(0.02)  # twice a standard deviation of 0.01
    assert noise_floor([0.3, 0.3, 0.3]) == 0


def test_what_could_not_be_measured_is_no_gain():
    before, after = trial("a", 0.8, 0.2), trial("b", None, 0.2)
    assert after.total < before.total  # without its worst component it looks better
    assert gain(before, after, WEIGHTS)[0] == pytest.approx(0)
    assert gain(before, trial("c", 0.8, 0.2, pairs=("a",)), WEIGHTS)[0] == pytest.approx(0)
    assert gain(before, trial("d", 0.4, 0.2), WEIGHTS) == pytest.approx((0.1, 0.25))


def test_the_weakest_component_is_the_one_that_adds_most():
    one = trial("a", 0.2, 0.3)
    one.pairs["a"]["components"] = one.pairs["b"]["components"] = {
        "duration": 0.2, "coverage": 0.3, "structure": None, "quality": 0.0, "rouge": 0.9,
    }  # fmt: skip
    assert refine.weakest(one, WEIGHTS) == ["rouge", "coverage", "duration"]  # .09, .075, .05
