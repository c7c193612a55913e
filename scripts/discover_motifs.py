"""Find the motifs of a language without its text: stretches of units that come again and again.

    python scripts/discover_motifs.py --config configs/demo.yaml
    make discover_motifs CONFIG=configs/demo.yaml SET='motifs.vocab_size=1000'
    make discover_motifs CONFIG=configs/demo.yaml SET='motifs.runs=raw motifs.bound_by_silence=false'

Reads the units of encode_units and, for examples, the clips of segment. Writes motifs.model (SentencePiece BPE, one
unit is one character), motifs.vocab, motif_analysis.json (every motif with frequency, length and duration;
compression, entropy, vocabulary use), occurrences.csv (where each occurs), examples/ with examples.json for
listening, and sweep.csv and sweep.png over sizes of vocabulary.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from voxmake.errors import BadInput
from voxmake.run.config import Section
from voxmake.run.entry import parser, run_stage
from voxmake.run.run import read_table
from voxmake.run.stage import Stage

if TYPE_CHECKING:
    import numpy as np

    from voxmake.run.run import Run
    from voxmake.units.motifs import Found, Symbols


class Motifs(Section):
    """Recurring stretches of units."""

    vocab_size: int = Field(500, ge=3, le=100_000, description="pieces in all; lowered where the data can't fill it")
    runs: Literal["joined", "raw"] = Field(
        "joined", description="joined: a run of equal units is one symbol; raw: each frame is one, so duration counts"
    )
    bound_by_silence: bool = Field(True, description="no motif spans a pause")
    silence_drop_db: float = Field(
        25.0, gt=0, description="a unit is silence if its mean level is so far below the loud ones', in dB"
    )
    max_units: int = Field(16, ge=2, le=512, description="symbols in a motif, at most")
    min_count: int = Field(2, ge=1, description="a merge must join a pair that occurs so often")
    sweep: list[int] = Field(
        default=[150, 250, 500, 1000, 2000, 4000], description="sizes of vocabulary to compare; empty: none"
    )
    example_motifs: int = Field(10, ge=0, le=1000, description="motifs to listen to: those that cover the most time")
    examples_each: int = Field(5, ge=1, le=100, description="examples of each, spread over its occurrences")
    example_context_s: float = Field(0.15, ge=0, le=2, description="speech before and after an example, in seconds")


STAGE = Stage(
    name="discover_motifs",
    version=1,
    summary="find stretches of units that come again",
    sections={"motifs": Motifs},
    after=("encode_units", "segment"),
)

OCCURRENCE_COLUMNS = ("motif", "clip", "start_s", "end_s")


@dataclass
class Motif:
    """One piece of more than one unit, and where it was found: (number of the clip, first frame, frame after)."""

    units: list[int]
    places: list[tuple[int, int, int]] = field(default_factory=list)
    name: str = ""

    def frames(self) -> int:
        return sum(end - start for _, start, end in self.places)


def work(run: Run) -> None:
    from voxmake.units.corpus import read_corpus
    from voxmake.units.motifs import discover, sequence, summary, text_of

    spec = run.config.motifs
    corpus = read_corpus(run.inputs["encode_units"].path)
    ids, hop_s = list(corpus.units)[: run.limit], corpus.hop_s
    silences, joined = silences_of(run), spec.runs == "joined"
    clips = [sequence(corpus.units[name], joined, silences) for name in ids]
    run.log.info("%d clips, %d silent units", len(clips), len(silences))
    run.take_in(len(clips))

    sentences = [text_of(clip.symbols[a:b]) for clip in clips for a, b in clip.spans]
    if not sentences:
        raise BadInput("no unit lies above silence; lower motifs.silence_drop_db, or set motifs.bound_by_silence=false")
    frames = sum(int(clip.starts[-1]) for clip in clips)
    symbols = sum(len(clip.symbols) for clip in clips)
    quiet = symbols - sum(map(len, sentences))
    turns = sum(1 + int((clip.symbols[1:] != clip.symbols[:-1]).sum()) for clip in clips)

    def tried(size: int) -> tuple[Found, dict]:
        found = discover(sentences, size, spec.max_units, spec.min_count)
        told = summary(found, frames, symbols, quiet, frames * hop_s, size)
        run.log.info("vocabulary %d: %d pieces, %.2f frames a token", size, told["size"], told["compression_raw"])
        return found, told

    found, chosen = tried(spec.vocab_size)
    if chosen["adjusted"]:
        run.log.warning("motifs.vocab_size %d became %d: %s", spec.vocab_size, chosen["size"], chosen["adjusted"])
    motifs = locate(found, clips)
    run.write_bytes("motifs.model", found.bpe.proto)
    run.write_text("motifs.vocab", found.bpe.vocab())
    write_occurrences(run, motifs, ids, hop_s)
    compression = {
        "raw_to_joined": round(frames / turns, 4),
        "joined_to_bpe": round(turns / chosen["tokens"], 4),
        "raw_to_bpe": chosen["compression_raw"],
    }
    write_analysis(run, motifs, ids, hop_s, corpus.tokeniser, compression, chosen, silences)
    write_examples(run, motifs, ids, hop_s)
    write_sweep(run, {size: tried(size)[1] for size in sorted(set(spec.sweep))})
    write_stats(run, motifs, compression, chosen)
    run.publish(rows_out=len(clips))


def silences_of(run: Run) -> np.ndarray:
    """Units that bound motifs."""
    import numpy as np

    from voxmake.units.motifs import silent_units

    spec = run.config.motifs
    if not spec.bound_by_silence:
        return np.array([], np.int64)
    table = read_table(run.inputs["encode_units"].path / "units.csv")
    level_db = np.array([float(row["level_db"] or "nan") for row in table])
    return silent_units(level_db, np.array([int(row["frames"]) for row in table]), spec.silence_drop_db)


def locate(found: Found, clips: list[Symbols]) -> list[Motif]:
    """Every motif that is used, most frequent first, with its places."""
    from voxmake.units.motifs import units_of

    lengths = [len(piece) or 1 for piece in found.bpe.pieces]
    motifs: dict[int, Motif] = {}
    encoded = iter(found.encoded)
    for number, clip in enumerate(clips):
        for first, _ in clip.spans:
            at = first
            for piece in next(encoded).tolist():
                end = at + lengths[piece]
                if lengths[piece] > 1:
                    motif = motifs.setdefault(piece, Motif(units_of(found.bpe.pieces[piece]).tolist()))
                    motif.places.append((number, int(clip.starts[at]), int(clip.starts[end])))
                at = end
    ordered = sorted(motifs.values(), key=lambda motif: (-len(motif.places), motif.units))
    for rank, motif in enumerate(ordered, start=1):
        motif.name = f"m{rank:05}"
    return ordered


# ---------------------------------------------------------------------------- results


def write_occurrences(run: Run, motifs: list[Motif], ids: list[str], hop_s: float) -> None:
    rows = (
        [motif.name, ids[number], round(start * hop_s, 6), round(end * hop_s, 6)]
        for motif in motifs
        for number, start, end in motif.places
    )
    run.write_table("occurrences.csv", OCCURRENCE_COLUMNS, rows)


def write_analysis(
    run: Run,
    motifs: list[Motif],
    ids: list[str],
    hop_s: float,
    tokeniser: str,
    compression: dict,
    chosen: dict,
    silences,
) -> None:
    """motif_analysis.json; every occurrence stands in occurrences.csv, the first few here as well."""
    speakers = {row["id"]: row["speaker"] for row in run.inputs["segment"].rows()}
    described = []
    for motif in motifs:
        own = {ids[number] for number, _, _ in motif.places}
        described.append(
            {
                "motif": motif.name,
                "units": motif.units,
                "count": len(motif.places),
                "length_units": len(motif.units),
                "duration_mean_s": round(motif.frames() / len(motif.places) * hop_s, 4),
                "duration_min_s": round(min(end - start for _, start, end in motif.places) * hop_s, 4),
                "duration_max_s": round(max(end - start for _, start, end in motif.places) * hop_s, 4),
                "clips": len(own),
                "speakers": len({speakers[name] for name in own}),
                "occurrences": [
                    {"clip": ids[number], "start_s": round(start * hop_s, 6), "end_s": round(end * hop_s, 6)}
                    for number, start, end in motif.places[:10]
                ],
            }
        )
    run.write_json(
        "motif_analysis.json",
        {
            "tokeniser": tokeniser,
            "settings": run.config.motifs.model_dump(mode="json"),
            "silent_units": silences.tolist(),
            "vocabulary": chosen,
            "compression": compression,
            "entropy_normalised": chosen["entropy_normalised"],
            "motifs": described,
        },
    )


def write_examples(run: Run, motifs: list[Motif], ids: list[str], hop_s: float) -> None:
    """examples/: the motifs that cover the most time, cut from the clips; examples.json says what they are."""
    import soundfile

    spec = run.config.motifs
    clips = run.inputs["segment"]
    files = {row["id"]: row["file_name"] for row in clips.rows()}
    widest = sorted(motifs, key=lambda motif: (-motif.frames(), motif.name))[: spec.example_motifs]
    described = []
    for motif in widest:
        examples = []
        for number, (clip, start, end) in enumerate(spread(motif.places, spec.examples_each), start=1):
            source = clips.path / files[ids[clip]]
            start_s, end_s = start * hop_s, end * hop_s
            begin_s = max(0.0, start_s - spec.example_context_s)
            with soundfile.SoundFile(source) as stream:
                rate_hz = stream.samplerate
                stream.seek(round(begin_s * rate_hz))
                samples = stream.read(round((end_s + spec.example_context_s - begin_s) * rate_hz), dtype="int16")
            data = io.BytesIO()
            soundfile.write(data, samples, rate_hz, format="WAV", subtype="PCM_16")
            file = f"examples/{motif.name}_{number:02}.wav"
            run.write_bytes(file, data.getvalue())
            examples.append(
                {
                    "file": file,
                    "clip": ids[clip],
                    "start_s": round(start_s, 6),
                    "end_s": round(end_s, 6),
                    "starts_in_file_s": round(start_s - begin_s, 6),
                }
            )
        described.append({"motif": motif.name, "units": motif.units, "count": len(motif.places), "examples": examples})
    run.write_json("examples.json", described)


def spread(places: list[tuple[int, int, int]], count: int) -> Iterator[tuple[int, int, int]]:
    """So many of the places, evenly over all."""
    count = min(count, len(places))
    return (places[index * len(places) // count] for index in range(count))


def write_sweep(run: Run, sweep: dict[int, dict]) -> None:
    """sweep.csv and sweep.png: what sizes of vocabulary give."""
    if not sweep:
        return
    rows = list(sweep.values())
    run.write_table("sweep.csv", list(rows[0]), rows)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    different = list({row["size"]: row for row in rows}.values())  # sizes that the data can't fill are one size
    sizes = [row["size"] for row in different]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(sizes, [row["compression_raw"] for row in different], marker="o", label="frames per token")
    left.plot(sizes, [row["compression_symbols"] for row in different], marker="s", label="symbols per token")
    left.axhline(1, color="grey", linewidth=0.8)
    left.set(xlabel="pieces in the vocabulary", ylabel="compression", title="Compression", ylim=(0, None))
    right.plot(sizes, [row["vocabulary_use"] for row in different], marker="o", label="vocabulary use")
    right.plot(sizes, [row["entropy_normalised"] for row in different], marker="s", label="normalised entropy")
    bits = [row["description_bits"] for row in different]
    right.plot(sizes, [value / max(bits) for value in bits], marker="^", label="description length, of the largest")
    right.set(xlabel="pieces in the vocabulary", title="Use, entropy, description length", ylim=(0, 1.05))
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)
    run.write_bytes("sweep.png", data.getvalue())


def write_stats(run: Run, motifs: list[Motif], compression: dict, chosen: dict) -> None:
    run.stat("motifs", len(motifs), "motifs", "stretches of two units and more that are used")
    run.stat("vocab_size", chosen["size"], "pieces", "vocabulary after adjustment")
    run.stat("vocab_adjusted", chosen["adjusted"] or "no", "", "why the vocabulary is not as large as asked for")
    run.stat("vocabulary_use", chosen["vocabulary_use"], "1", "pieces that are used")
    run.stat("compression_joined", compression["raw_to_joined"], "1", "frames per run of equal units")
    run.stat("compression_bpe", compression["joined_to_bpe"], "1", "runs of equal units per token")
    run.stat("compression", compression["raw_to_bpe"], "1", "frames per token: both together")
    run.stat("tokens_per_second", chosen["tokens_per_s"], "1/s", "tokens, silences included")
    run.stat("entropy_normalised", chosen["entropy_normalised"], "1", "entropy of the tokens, 1 if all are used alike")
    run.stat("bitrate_entropy", chosen["bitrate_entropy"], "bit/s", "tokens a second at their entropy")


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
