"""Every way a script can fail, each with the exit code that `docs/design.md` gives it.

`Failure` and its kinds stop the run and print one line. `Rejected` concerns one item only: the item
goes to rejected.csv under a reason code and the run goes on.
"""

from __future__ import annotations


class Failure(Exception):
    """The run stops with one line on stderr: what, where, how to mend it."""

    exit_code = 70  # internal error, or a machine that can't go on (disk full, worker can't start)


class GateFailed(Failure):
    exit_code = 1  # the outputs are complete; the quality gate says no


class ConfigError(Failure):
    exit_code = 2  # usage or configuration


class BadInput(Failure):
    exit_code = 65  # the data that came in can't be used


class OutputExists(Failure):
    exit_code = 73  # --output names a folder that is there already


class Locked(Failure):
    exit_code = 75  # another run holds the lock; try again later


class Rejected(Exception):
    """One item can't be used.

    Args:
        reason: a code listed in `REASONS`.
        detail: what was found, in a few words, without the item's id.
    """

    def __init__(self, reason: str, detail: str = ""):
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}: add it to REASONS in voxmake/errors.py")
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


# Reasons that may have passed when the run is resumed: such items are tried again.
PASSING = {
    "missing_file", "unreadable", "changed_while_read", "download_failed",
    "decoder_crash", "timeout", "memory_limit", "internal_error",
    "engine_failed", "audit_error",
}  # fmt: skip

# No sign of bad input: people decided so, or the source never had transcripts (where one has, collect rejects the rows
# without). Such items don't count towards execution.max_rejected_ratio.
EXPECTED = {"rejected_by_review", "speaker_not_chosen", "no_transcript", "no_runway", "not_validated"}

# reason code -> how to mend it. docs/reasons.md is generated from this table.
REASONS: dict[str, str] = {
    # the file itself
    "missing_file": "the row names a file that isn't there: copy it in, or delete the row",
    "not_regular_file": "a folder, pipe, device or link stands where a file should be: put the file itself there",
    "path_outside_root": "the path leaves the folder of its metadata: move the file inside and name it relatively",
    "unreadable": "the file can't be opened: check its permissions and the disk",
    "changed_while_read": "the file changed during the run: wait until it is complete and run again",
    "lfs_pointer": "only the Git LFS pointer is there: run `git lfs pull` in the clone",
    "download_failed": "the server did not give the file: check the address, the token and the network, then run again",
    # the audio in it
    "empty_file": "the file has no bytes: copy it again",
    "not_audio": "the content is no audio format voxmake reads, whatever its name says: convert it to WAV or FLAC",
    "unsupported_codec": "this codec is refused (unsafe or unknown): convert the file to PCM WAV or FLAC",
    "bad_header": "the file's header contradicts itself: export it again from its source",
    "truncated": "the file ends before its declared length: copy it again from the original",
    "undecodable": "the decoder reports errors: re-export the file from its source",
    "duration_mismatch": "decoded and declared length differ: re-export the file from its source",
    "no_samples": "the file holds no audio samples: record it again",
    "too_short": "shorter than min_duration_s: delete it, or lower the limit",
    "no_frames": "too short for a single frame of features: leave it out",
    "too_long": "longer than max_duration_s: split it, or raise the limit",
    "too_many_channels": "more channels than max_channels: mix it down first",
    "bad_sample_rate": "the sample rate lies outside what speech is recorded at: re-export the file",
    "not_finite": "samples are NaN or infinite: re-export the file as integer PCM",
    "no_speech": "no utterance was found in it: lower segment.threshold_db or segment.min_duration_s, or leave it out",
    "silent": "no signal above silence_db: record it again",
    # the process that worked on it
    "decoder_crash": "the worker died on this item twice: convert the file with another tool",
    "timeout": "the item took longer than its limit: convert the file, or raise the limit",
    "memory_limit": "the item needed more memory than its limit: split the file, or raise the limit",
    "internal_error": "voxmake failed on this item; the traceback is in run.log: please report it",
    "language_not_known": "the recogniser does not know the clip's language: set validation.model to a Whisper model, or "
    "validation.language to what is spoken",
    # its metadata
    "bad_columns": "the row has the wrong number of columns: compare it with the rows around it",
    "bad_encoding": "the line is not UTF-8: save the file as UTF-8",
    "bad_json": "the line is not one JSON object: fix it, or delete it",
    "empty_id": "the row has no id: give it one",
    "bad_id": "the id has control characters or is too long: rename it",
    "duplicate_id": "another row has the same id (after NFC and case folding): rename one of them",
    "empty_text": "the row has no transcript: add it, or delete the row",
    "text_too_long": "the transcript is too long to be one clip's: check for an unclosed quote, or split the clip",
    "text_control_chars": "the transcript holds control characters: delete them",
    "text_bidi_override": "the transcript holds bidirectional override characters: delete them",
    "command_in_metadata": "a Kaldi pipe would run a command; voxmake runs none: write the files out first",
    "segment_not_wav": "segments are cut out of uncompressed WAV only: convert the long file to PCM WAV",
    "take_not_chosen": "the take chosen in the Codex editor is deleted: open the cell there and choose another",
    "bad_times": "start or end is negative, reversed or not a number: fix the segment",
    # the dataset that is trained on
    "rejected_by_review": "somebody heard it and said no in review.corrections: take the row out to have it back",
    "speaker_not_chosen": "dataset.speakers does not name its speaker: add the name, or set it to null for all",
    "no_transcript": "its source has no transcripts: add them, or write its text in review.corrections",
    "no_speaker": "diarize gave it no speaker: listen to it and give it one with a `speaker` row in review.corrections",
    "speaker_outlier": "it sounds unlike its speaker's other clips: listen; mark it `good` or move it in "
    "review.corrections, or add `outlier` to dataset.speaker_states",
    "speaker_uncertain": "its speaker is uncertain: listen; mark it `good` or move it in review.corrections, or add "
    "`uncertain` to dataset.speaker_states",
    "speaker_too_small": "its speaker has fewer usable clips than dataset.min_clips_per_speaker: record more, merge the "
    "speaker in review.corrections, or lower the limit",
    "text_too_short": "the text is shorter than dataset.min_text_chars: correct it in review.corrections, or lower the "
    "limit",
    "text_alphabet": "the text has characters that are not in dataset.alphabet: correct it in review.corrections, or "
    "add them",
    "shorter_than_segment": "shorter than dataset.segment_s, the piece that training cuts out of every clip: join it "
    "with its neighbour, or train with a shorter segment",
    "chars_per_s_impossible": "nobody speaks this text in this time (dataset.min_chars_per_s, max_chars_per_s): correct "
    "the text in review.corrections, or delete the row",
    "chars_per_s_outlier": "far faster or slower than this speaker's other clips, so text and audio may differ: listen; "
    "correct the text or mark the clip `good` in review.corrections",
    # voices that are trained
    "not_validated": "whisper_validate did not pass it: look up its class in validation.csv, correct the text or the "
    "clip; or set `validated: false` to train on all",
    "text_longer_than_audio": "more characters than audio frames, so no alignment exists: text and audio do not belong "
    "together; correct the text in review.corrections, or delete the row",
    # scripts that are written and audited
    "engine_failed": "the text engine gave no answer after all tries: look at its server's log, then run again",
    "no_text": "the text engine answered, but with no text to speak: look at its prompt, or take another model",
    "no_runway": "the vocals start before anything could be said: leave the song without an intro, or correct its "
    "vocals_start_s in the catalog",
    # pairs that a prompt is calibrated with
    "no_partner": "a PDF without its MP3, or an MP3 without its PDF: give both the same name, or take it out",
    "broken_pdf": "the file is no PDF, or its objects contradict each other: export it again from its source",
    "encrypted_pdf": "the PDF asks for a password: save a copy without one",
    "scanned_pdf": "the PDF has no text that can be seen, as scans have none: run text recognition over it first",
    "too_many_pages": "more pages than calibrate.max_pages: take the part that the episode is about, or raise the limit",
    "no_concepts": "the PDF has too little text to find concepts in: look whether it is the right file",
    "audit_error": "the auditor gave no valid verdict after all tries, or failed its canaries: run again; if it stays, "
    "take another model",
    "speech_failed": "no take of the script was good, failures.json tells why: listen to another voice, add words to "
    "tts.lexicon, or correct the script",
}
