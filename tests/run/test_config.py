"""Config files: YAML 1.2 scalars, extends, --set, and errors that name line and nearest key."""

import pytest
from pydantic import Field

from voxmake.errors import ConfigError
from voxmake.run.config import Section, load_config, parse_yaml


class Audio(Section):
    sample_rate_hz: int = Field(16000, ge=4000)
    target_db: float = -20.0
    normalize: bool = True
    language: str = ""


class Train(Section):
    learning_rate: float = 1e-4
    steps: list[int] = []


SECTIONS = {"audio": Audio, "train": Train}


def load(tmp_path, text, *assignments, **others):
    for name, content in others.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    (tmp_path / "x.yaml").write_text(text)
    return load_config(tmp_path / "x.yaml", assignments, SECTIONS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("16e3", 16000.0), ("1.5", 1.5), (".5", 0.5), ("-.inf", float("-inf")),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("true", True), ("False", False),
        ("0123", 123), ("08", 8), ("0o17", 15), ("0xff", 255), ("1:30", "1:30"), ("1_000", "1_000"),
        ("NaN", "NaN"), ("null", None), ("~", None), ("", None), ("'1'", "1"), ("2026-11-20", "2026-11-20"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2(text, value):
    assert parse_yaml(f"key: {text}", "x")[0] == {"key": value}


def test_extends_merges_sections_and_replaces_lists(tmp_path):
    base = "audio: {target_db: -23, sample_rate_hz: 22050}\ntrain: {steps: [1, 2]}\n"
    config = load(tmp_path, "extends: base.yaml\naudio: {target_db: -18}\ntrain: {steps: [3]}\n", base=base)
    assert (config.audio.target_db, config.audio.sample_rate_hz, config.train.steps) == (-18.0, 22050, [3])


def test_set_overrides_the_file(tmp_path):
    config = load(
        tmp_path, "audio: {target_db: -18}", "audio.target_db=-23", "train.learning_rate=3e-5", "train.steps=[7]"
    )
    assert (config.audio.target_db, config.train.learning_rate, config.train.steps) == (-23.0, 3e-5, [7])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio:\n  target_bd: -3\n", r"x\.yaml:2: audio\.target_bd: unknown key; did you mean target_db\?"),
        (
            "audio:\n  sample_rate: 16000\n",
            r"x\.yaml:2: audio\.sample_rate: unknown key; did you mean sample_rate_hz\?",
        ),
        ("target_db: -3\n", r"x\.yaml:1: target_db: unknown key; did you mean audio\.target_db\?"),
        ("audoi: {}\n", r"x\.yaml:1: audoi: unknown key; did you mean audio\?"),
        ("audio: {zzz: 1}\n", r"x\.yaml:1: audio\.zzz: unknown key; `docs/config\.md` lists the keys"),
        ("\naudio:\n  sample_rate_hz: 10\n", r"x\.yaml:3: audio\.sample_rate_hz: .*4000.*\(got 10\)"),
        ("audio:\n  target_db: loud\n", r"x\.yaml:2: audio\.target_db: .*valid number.*\(got 'loud'\)"),
        ("audio: {target_db: .nan}", r"x\.yaml:1: audio\.target_db: .*finite"),
        ("train: {steps: [1, x]}", r"x\.yaml:1: train\.steps\.1: "),
        ("audio: {}\naudio: {}\n", r"x\.yaml:2: duplicate key 'audio', first used on line 1"),
        ("1: 2\n", r"x\.yaml:1: key 1 must be a string"),
        ("audio: [\n", r"x\.yaml:2: "),
        ("- a\n", r"x\.yaml:1: must be a mapping of keys, not a list"),
        ("a: !!python/object:os.system {}\n", r"x\.yaml:1: could not determine a constructor"),
        ("extends: gone.yaml\n", r"gone\.yaml: no such config file"),
        ("extends: x.yaml\n", r"x\.yaml: extends itself"),
        ("extends: [a]\n", r"x\.yaml:1: extends: must be one file name"),
    ],
)
def test_errors_name_the_line_and_the_nearest_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_every_fault_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "audio:\n  target_bd: 1\n  normalise: true\n")
    assert [line.split(": ")[1] for line in str(caught.value).split("\n")] == ["audio.target_bd", "audio.normalise"]


@pytest.mark.parametrize(
    "assignment", ["audio.target_db", "=3", "audio.target_db.x=3", "audio.target_bd=3", "audio.target_db=[1"]
)
def test_bad_set_is_a_config_error(tmp_path, assignment):
    with pytest.raises(ConfigError, match="--set"):
        load(tmp_path, "audio: {target_db: -3}", assignment)


def test_not_utf8_is_a_config_error(tmp_path):
    (tmp_path / "x.yaml").write_bytes("project: größe".encode("latin-1"))
    with pytest.raises(ConfigError, match="can't be read as UTF-8"):
        load_config(tmp_path / "x.yaml", [], SECTIONS)
