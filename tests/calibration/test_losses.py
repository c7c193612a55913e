"""Each loss against values worked out by hand, and the four scripts whose losses are known beforehand."""

import math

import pytest

from voxmake.calibration import losses
from voxmake.calibration.segments import script_structure
from voxmake.calibration.words import content, sentences

WEIGHTS = {"duration": 0.25, "coverage": 0.25, "structure": 0.2, "quality": 0.2, "rouge": 0.1}
SECTIONS = {
    "problem": ["Old bridges rust where nobody can see it.", "Inspectors climb them once in ten years."],
    "method": ["A drone took photographs of forty bridges.", "A program compared the photographs of two years."],
    "finding": ["The drone saw twice as many cracks as the inspectors.", "A flight lasted half an hour."],
    "limitation": ["Rain kept the drone on the ground.", "Deep cracks below the water stay hidden."],
}
DOCUMENT = {
    "title": "Drones and old bridges",
    "sections": [
        {"heading": kind, "kind": kind, "page": 1, "sentences": said} for kind, said in SECTIONS.items()
    ],
    "figures": [],
    "concepts": [
        {"term": term}
        for term in ("drone", "bridges", "photographs", "cracks", "inspectors", "rain", "water", "program")
    ],
}  # fmt: skip
REFERENCE = "\n\n".join(
    [
        "Here is the problem. Old bridges rust where nobody can see it. Inspectors climb them once in ten years.",
        "How did they test it? A drone took photographs of forty bridges. A program compared the photographs of two years.",
        "They found this result. The drone saw twice as many cracks as the inspectors. A flight lasted half an hour.",
        "There is a limitation. Rain kept the drone on the ground. Deep cracks below the water stay hidden.",
    ]
)
SHUFFLED = "\n\n".join(REFERENCE.split("\n\n")[at] for at in (2, 0, 3, 1))


def components(script, duration_s):
    stems = losses.document_stems(DOCUMENT)
    return {
        "duration": losses.duration_loss(duration_s, 60.0),
        "coverage": losses.coverage_loss(losses.coverage(script, DOCUMENT["concepts"])),
        "structure": losses.structure_loss(script_structure(REFERENCE, DOCUMENT), script_structure(script, DOCUMENT)),
        "quality": losses.quality_loss(losses.measures(script, stems, REFERENCE), 1),
        "rouge": losses.rouge_loss(losses.rouge(script, REFERENCE)),
    }


def test_a_script_like_the_reference_loses_nothing():
    found = components(REFERENCE, 60.0)
    assert found["duration"] == found["coverage"] == found["structure"] == found["rouge"] == 0
    assert found["quality"] < 0.03  # "of the" and the like come again


def test_an_empty_script_loses_everything():
    assert components("", 0.0) == dict.fromkeys(losses.COMPONENTS, 1.0)
    assert losses.total_loss(components("", 0.0), WEIGHTS)[0] == pytest.approx(1.0)


def test_a_shuffled_script_is_worse_in_structure_only():
    whole, shuffled = components(REFERENCE, 60.0), components(SHUFFLED, 60.0)
    assert script_structure(SHUFFLED, DOCUMENT)["order"] == ["finding", "problem", "limitation", "method"]
    # problem method finding limitation -> finding problem limitation method takes 4 edits; the shares stay.
    assert shuffled["structure"] == pytest.approx(4 / 4 / 2)
    for name in ("duration", "coverage", "quality"):
        assert shuffled[name] == pytest.approx(whole[name], abs=1e-9)
    assert shuffled["rouge"] < 0.02  # the pairs of words where two paragraphs meet


def test_half_the_concepts_give_a_coverage_of_one_half():
    found = losses.coverage("The drone took photographs of bridges. It saw cracks.", DOCUMENT["concepts"])
    assert losses.coverage_loss(found) == 0.5
    assert {one["term"]: one["evidence"] for one in found} == {
        "drone": "The drone took photographs of bridges.",
        "bridges": "The drone took photographs of bridges.",
        "photographs": "The drone took photographs of bridges.",
        "cracks": "It saw cracks.",
        "inspectors": None,
        "rain": None,
        "water": None,
        "program": None,
    }


@pytest.mark.parametrize(
    ("spoken_s", "expected"), [(100, 0.0), (90, 0.1), (125, 0.25), (300, 1.0), (0, 1.0), (None, None)]
)
def test_duration(spoken_s, expected):
    assert losses.duration_loss(spoken_s, 100) == expected


@pytest.mark.parametrize(
    ("order", "shares", "expected"),
    [
        (["intro", "method", "finding"], {"intro": 0.2, "method": 0.4, "finding": 0.4}, 0.0),
        # one of three parts is missing: 1/3; shares: (|.2-.2| + |.4-.8| + |.4-0|) / 2 = .4
        (["intro", "method"], {"intro": 0.2, "method": 0.8}, (1 / 3 + 0.4) / 2),
        # two parts change places: two edits of three
        (["method", "intro", "finding"], {"intro": 0.2, "method": 0.4, "finding": 0.4}, (2 / 3) / 2),
        # nothing in common
        (["tangent"], {"tangent": 1.0}, 1.0),
        ([], {}, 1.0),
    ],
)  # fmt: skip
def test_structure(order, shares, expected):
    reference = {"order": ["intro", "method", "finding"], "shares": {"intro": 0.2, "method": 0.4, "finding": 0.4}}
    assert losses.structure_loss(reference, {"order": order, "shares": shares}) == pytest.approx(expected)
    assert losses.structure_loss(reference, None) is None


def test_rouge_of_one_sentence():
    # "the cat sat on the mat" and "the cat lay on the mat": 5 of 6 words, 3 of 5 pairs, a common run of 5 of 6.
    found = losses.rouge("The cat lay on the mat.", "The cat sat on the mat.")
    assert found == pytest.approx({"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeLsum": 5 / 6})
    assert losses.rouge_loss(found) == pytest.approx(1 - (5 / 6 + 3 / 5 + 5 / 6) / 3)


def test_reading_ease():
    # 6 words in a sentence, 6 syllables: 206.835 - 1.015 * 6 - 84.6 * 1
    assert losses.reading_ease("The cat sat on the mat.") == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    assert [losses.syllables(word) for word in ("cat", "table", "make", "degree", "water", "idea")] == [
        1,
        2,
        1,
        2,
        2,
        2,
    ]


def test_measures():
    stems = frozenset(content("drones bridges cracks"))
    # 3 of the 4 content words stand in the paper, all of the reference's do; "drones see" comes twice, no run of 3 does
    found = losses.measures("Drones see bridges. Drones see cracks in wood.", stems, "Drones and bridges.")
    assert found["grounding"] == pytest.approx(4 / 5 / 1)
    assert found["no_repetition"] == 1.0
    assert losses.measures("on and on and on and on", stems, "Drones.")["no_repetition"] == pytest.approx(2 / 5)
    assert losses.quality_loss({"a": 0.5, "b": 1.0}, 1) == 0.25
    assert losses.quality_loss({"engagement": 70, "clarity": 80, "accuracy": 90}, 100) == pytest.approx(0.2)
    assert losses.quality_loss(None, 1) is None


def test_the_total_is_the_weighted_mean():
    known = {"duration": 0.4, "coverage": 0.2, "structure": 0.5, "quality": 0.1, "rouge": 0.6}
    assert losses.total_loss(known, WEIGHTS)[0] == pytest.approx(0.1 + 0.05 + 0.1 + 0.02 + 0.06)


def test_what_cannot_be_measured_is_not_zero():
    known = {"duration": None, "coverage": 0.2, "structure": 0.5, "quality": None, "rouge": 0.6}
    total, weights = losses.total_loss(known, WEIGHTS)
    assert weights == pytest.approx({"coverage": 0.25 / 0.55, "structure": 0.2 / 0.55, "rouge": 0.1 / 0.55})
    assert total == pytest.approx((0.25 * 0.2 + 0.2 * 0.5 + 0.1 * 0.6) / 0.55)
    assert math.isclose(sum(weights.values()), 1)
    assert losses.total_loss(dict.fromkeys(losses.COMPONENTS), WEIGHTS) == (None, {})


def test_sentences():
    assert sentences("It rains, e.g. in May. See Fig. 3 below.\n\nno capital\nhere") == [
        "It rains, e.g. in May.", "See Fig. 3 below.", "no capital here",
    ]  # fmt: skip
