"""What is in a released voice: its names, its licence, its card, the configuration that players ask for."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from voxmake.errors import ConfigError

# language code -> its name in itself, in English, and the country in English: what Piper's voices say of themselves.
LANGUAGES = {
    "ar_JO": ("العربية", "Arabic", "Jordan"), "ca_ES": ("Català", "Catalan", "Spain"),
    "cs_CZ": ("Čeština", "Czech", "Czech Republic"), "da_DK": ("Dansk", "Danish", "Denmark"),
    "de_DE": ("Deutsch", "German", "Germany"), "el_GR": ("Ελληνικά", "Greek", "Greece"),
    "en_GB": ("English", "English", "Great Britain"), "en_US": ("English", "English", "United States"),
    "es_ES": ("Español", "Spanish", "Spain"), "es_MX": ("Español", "Spanish", "Mexico"),
    "fa_IR": ("فارسی", "Farsi", "Iran"), "fi_FI": ("Suomi", "Finnish", "Finland"),
    "fr_FR": ("Français", "French", "France"), "hu_HU": ("Magyar", "Hungarian", "Hungary"),
    "is_IS": ("íslenska", "Icelandic", "Iceland"), "it_IT": ("Italiano", "Italian", "Italy"),
    "ka_GE": ("ქართული ენა", "Georgian", "Georgia"), "kk_KZ": ("қазақша", "Kazakh", "Kazakhstan"),
    "nl_BE": ("Nederlands", "Dutch", "Belgium"), "nl_NL": ("Nederlands", "Dutch", "Netherlands"),
    "no_NO": ("Norsk", "Norwegian", "Norway"), "pl_PL": ("Polski", "Polish", "Poland"),
    "pt_BR": ("Português", "Portuguese", "Brazil"), "pt_PT": ("Português", "Portuguese", "Portugal"),
    "ro_RO": ("Română", "Romanian", "Romania"), "ru_RU": ("Русский", "Russian", "Russia"),
    "sv_SE": ("Svenska", "Swedish", "Sweden"), "tr_TR": ("Türkçe", "Turkish", "Turkey"),
    "uk_UA": ("українська мова", "Ukrainian", "Ukraine"), "vi_VN": ("Tiếng Việt", "Vietnamese", "Vietnam"),
    "zh_CN": ("简体中文", "Chinese", "China"),
}  # fmt: skip


def full_code(language: str) -> str:
    """`en_US` of `en-us`, `en` or `en_US`; a language without a country that is known stays as it is."""
    family, _, region = language.replace("-", "_").partition("_")
    if region:
        return f"{family.lower()}_{region.upper()}"
    home = f"{family.lower()}_{family.upper()}"
    known = [code for code in LANGUAGES if code.startswith(f"{family.lower()}_")]
    return {"en": "en_US"}.get(family.lower()) or (home if home in LANGUAGES else known[0] if known else family.lower())


def language_facts(code: str) -> dict[str, str]:
    """Piper's `language` block."""
    family, _, region = code.partition("_")
    native, english, country = LANGUAGES.get(code, (code, code, region))
    return {
        "code": code, "family": family, "region": region, "name_native": native, "name_english": english,
        "country_english": country,
    }  # fmt: skip


def complete_piper_config(config: dict[str, Any], name: str, code: str, quality: str) -> dict[str, Any]:
    """Piper's configuration with what Home Assistant looks for: dataset, language.code, audio.quality."""
    return config | {
        "dataset": name,
        "audio": config["audio"] | {"quality": quality},
        "language": language_facts(code),
    }


def licence_of_voice(data: str | None, base: str | None, has_base: bool) -> str:
    """The licence that the voice inherits: of the base model where that restricts more, else of the recordings.

    Raises:
        ConfigError: one of them is not stated, or forbids derivatives.
    """
    if data is None:
        raise ConfigError("release.data_licence: say under which licence the recordings are, e.g. CC0-1.0")
    if has_base and base is None:
        raise ConfigError(
            "release.base_licence: the voice began as another model: say under which licence that is; facebook/mms-tts-* "
            "is CC-BY-NC-4.0"
        )
    licences = [data, *([base] if has_base and base else [])]
    for licence in licences:
        if re.search(r"\bND\b", licence.upper()):
            raise ConfigError(f"release: {licence} forbids derivatives, and a voice is one: it can't be released")
    return max(reversed(licences), key=_restrictions)


def _restrictions(licence: str) -> tuple[bool, bool, bool]:
    """What a licence asks for, gravest first: no commerce, the same licence again, a name."""
    words = set(re.split(r"[-\s]", licence.upper()))
    return "NC" in words, bool({"SA", "GPL"} & words), "BY" in words


def card(facts: dict[str, Any], metrics: dict[str, dict[str, Any]], checks: list[dict[str, Any]]) -> str:
    """The voice card in Markdown: what it is made of, what it may be used for, what was measured."""
    lines = [f"# {facts['id']}", "", facts["description"], ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts["rows"].items()), ""]
    lines += [
        "## Licence",
        "",
        facts["licence_text"],
        "",
        "## Measured",
        "",
        "| what | value | unit |",
        "|---|---|---|",
    ]
    lines += [f"| {entry['description']} | {entry['value']} | {entry['unit']} |" for entry in metrics.values()]
    lines += ["", "Gate of the training:", ""]
    lines += [
        f"- {check['name']} {check['value']} {check['relation']} {check['limit']}: {'PASS' if check['passed'] else 'FAIL'}"
        for check in checks
    ]
    lines += ["", "The sentences that were measured are in `samples/` and `samples.csv`.", ""]
    return "\n".join(lines)


def archive(folder: Path, name: str) -> bytes:
    """A tar.gz of a folder under one name: the same files give the same bytes."""
    import gzip

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    return gzip.compress(packed.getvalue(), compresslevel=6, mtime=0)


# Runs in a process of its own, in an empty folder, with what the package holds and nothing of voxmake.
SMOKE = """
import json, sys, wave
from pathlib import Path
import numpy, onnxruntime
folder = Path(sys.argv[1])
told = json.loads((folder / "smoke.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(str(folder / told["model"]), providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
feed = {key: numpy.array(value, told["types"][key]) for key, value in told["feed"].items()}
samples = session.run(None, feed)[0].reshape(-1)
assert numpy.isfinite(samples).all(), "samples that are not finite"
rate = int(facts["sample_rate"])
assert len(samples) > rate // 10, "less than 0.1 s of audio"
assert numpy.abs(samples).max() > 1e-4, "silence"
print(json.dumps({"duration_s": round(len(samples) / rate, 3), "sample_rate_hz": rate, "model_type": facts["model_type"]}))
"""


def smoke_feed(names: list[str], ids: list[int], inference: dict[str, float]) -> dict[str, Any]:
    """smoke.json's inputs, for MMS's interface and Piper's."""
    scales = [inference["noise_scale"], inference["length_scale"], inference["noise_w"]]
    if "scales" in names:
        feed: dict[str, Any] = {"input": [ids], "input_lengths": [len(ids)], "scales": scales}
    else:
        feed = {"x": [ids], "x_length": [len(ids)]}
        feed |= {name: [v] for name, v in zip(("noise_scale", "length_scale", "noise_scale_w"), scales, strict=True)}
    if "sid" in names:
        feed["sid"] = [0]
    types = {name: "float32" if "scale" in name else "int64" for name in feed}
    return {"feed": feed, "types": types}


def to_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
