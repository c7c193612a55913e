"""Copy a finished run, an audio set or a released voice, to another disk, an S3 bucket or a machine reached by SSH.

    python scripts/upload.py --config configs/demo.yaml --stage segment --to s3://bucket/sets
    python scripts/upload.py --run release/3fa2b1c94d5e --to ssh://me@host/srv/voices --check
    make upload CONFIG=configs/demo.yaml STAGE=segment TO=/mnt/disk/sets

Writes TO/<stage>/<hash>/, MANIFEST.sha256 last: a run is there if its manifest is. TO is anything that fsspec
knows; S3 and SSH need `docker/setup.py --group upload`. Interrupted, the same command goes on: what a receipt
below .upload/ names by its sha256, and what is there in full size, is not sent again. Keys come from where the
service's own tools take them (AWS_* and AWS_ENDPOINT_URL, ~/.aws, ~/.ssh), never from here; a host that is not in
~/.ssh/known_hosts is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from runs import find_run
from voxmake.errors import BadInput, ConfigError, Failure, OutputExists
from voxmake.run.digest import file_sha256
from voxmake.run.entry import reporting
from voxmake.run.run import open_input
from voxmake.run.stage import STAGES, Planned, load_config, plan_stage
from voxmake.run.store import MANIFEST, RECORDS, Lock, check_run, read_manifest

RECEIPTS = ".upload"
_TRIES = 5
_FIRST_WAIT_S = 0.5  # doubled at each further try
_THREADS = 8  # of small files most of the time is waiting for an answer
# Where a file is either there in full or not at all. Elsewhere it is sent under another name, then renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}


@dataclass(frozen=True)
class Sent:
    """One file: its name below the run, size in bytes, sha256."""

    name: str
    size: int
    sha256: str


class Target:
    """A folder behind fsspec.

    Raises:
        ConfigError: a protocol that is not known, or whose package is not installed.
    """

    def __init__(self, url: str):
        from fsspec.core import url_to_fs

        try:
            # sshfs trusts any host unless told otherwise; () is asyncssh's word for ~/.ssh/known_hosts.
            known = {"known_hosts": ()} if url.startswith(("ssh:", "sftp:")) else {}
            self.fs, self.root = url_to_fs(url, **known)
        except ImportError:
            raise ConfigError(f"--to {url}: needs packages: `python3 docker/setup.py --group upload`") from None
        except ValueError as error:
            raise ConfigError(f"--to {url}: {error}") from None
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else set(self.fs.protocol)
        self.atomic = bool(protocols & _ATOMIC)

    def path(self, *parts: str) -> str:
        return "/".join((self.root.rstrip("/"), *parts))

    def read(self, path: str) -> bytes | None:
        """None if there is no such file."""
        try:
            return self.fs.cat_file(path)
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        self._make_folder(path)
        self.fs.pipe_file(path, data)

    def _make_folder(self, path: str) -> None:
        if not self.atomic:  # a bucket has none, and s3fs would make a missing bucket
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def put(self, source: Path, path: str) -> None:
        """Send one file; under its name it is there in full or not at all."""
        self._make_folder(path)
        if self.atomic:
            self.fs.put_file(str(source), path)
        else:
            self.fs.put_file(str(source), f"{path}.part")
            self.fs.mv(f"{path}.part", path)
        arrived = self.fs.info(path)["size"]
        if arrived != source.stat().st_size:
            raise OSError(f"{arrived} of {source.stat().st_size} bytes arrived")

    def sizes(self, folder: str) -> dict[str, int]:
        """Every file below a folder: its path and size."""
        self.fs.invalidate_cache()
        try:
            return {path: facts["size"] for path, facts in self.fs.find(folder, detail=True).items()}
        except FileNotFoundError:
            return {}


def passing() -> tuple[type[Exception], ...]:
    """What a connection may die of. fsspec gives OSError for most of it, and lets some through."""
    import sys

    found: list[type[Exception]] = [OSError]
    if "botocore" in sys.modules:
        from botocore.exceptions import BotoCoreError

        found.append(BotoCoreError)
    if "asyncssh" in sys.modules:
        from asyncssh import Error

        found.append(Error)
    return tuple(found)


def tried(what: str, action: Any, *args: Any) -> Any:
    """Call it until it works. What will not change by itself (no such bucket, no permission) is said at once."""
    attempt = 1
    while True:
        try:
            return action(*args)
        except (PermissionError, FileNotFoundError) as error:
            raise BadInput(f"{what}: {error}; check the target's name and who may write there") from error
        except passing() as error:
            if attempt == _TRIES:
                told = error or type(error).__name__
                raise Failure(f"{what}: {told} ({_TRIES} tries); the same command goes on from here") from error
        time.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1))
        attempt += 1


def to_send(run: Path) -> list[Sent]:
    """The run's files by name, the manifest not among them."""
    files = [Sent(name, *facts) for name, facts in read_manifest(run).items()]
    for name in RECORDS:  # the manifest leaves them out
        files.append(Sent(name, (run / name).stat().st_size, file_sha256(run / name)))
    return sorted(files, key=lambda file: file.name)


def receipt(files: Iterable[Sent]) -> bytes:
    return "".join(f"{file.sha256} {file.size} {file.name}\n" for file in files).encode()


def there_already(target: Target, folder: str) -> set[Sent]:
    """Files that receipts name and that have their size."""
    sizes = target.sizes(folder)
    found = set()
    for path in sizes:
        if f"/{RECEIPTS}/" in path and path.endswith(".txt"):
            for line in (target.read(path) or b"").decode(errors="replace").splitlines():
                digest, _, rest = line.partition(" ")
                size, _, name = rest.partition(" ")
                if size.isdigit() and sizes.get(f"{folder}/{name}") == int(size):
                    found.add(Sent(name, int(size), digest))
    return found


def copy(run: Path, target: Target, folder: str, batch: int, log: logging.Logger) -> None:
    """Send what is not there yet, batch by batch, a receipt after each; then the manifest."""
    files = to_send(run)
    held = tried(folder, there_already, target, folder)
    missing = [file for file in files if file not in held]
    if len(missing) < len(files):
        log.info("%d of %d files are there already", len(files) - len(missing), len(files))
    total_bytes, sent_bytes, begun_s = sum(file.size for file in missing), 0, time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(missing), batch):
            part = missing[first : first + batch]
            jobs = [
                pool.submit(tried, f"{folder}/{file.name}", target.put, run / file.name, f"{folder}/{file.name}")
                for file in part
            ]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # the rest would fail alike, each after all its tries
                raise
            name = hashlib.sha256(receipt(part)).hexdigest()[:16]
            tried(folder, target.write, f"{folder}/{RECEIPTS}/{name}.txt", receipt(part))
            sent_bytes += sum(file.size for file in part)
            rate = sent_bytes / max(time.monotonic() - begun_s, 1e-6)
            left = timedelta(seconds=round((total_bytes - sent_bytes) / max(rate, 1e-6)))
            log.info(
                "%d/%d files, %.1f/%.1f MB, %.1f MB/s, ETA %s",
                first + len(part), len(missing), sent_bytes / 1e6, total_bytes / 1e6, rate / 1e6, left,
            )  # fmt: skip
    tried(folder, target.put, run / MANIFEST, f"{folder}/{MANIFEST}")
    tried(folder, remove_receipts, target, folder)


def remove_receipts(target: Target, folder: str) -> None:
    if target.fs.exists(f"{folder}/{RECEIPTS}"):
        target.fs.rm(f"{folder}/{RECEIPTS}", recursive=True)


def check(run: Path, target: Target, folder: str) -> None:
    """Read everything back and compare its sha256."""

    def differs(file: Sent) -> str | None:
        data = tried(f"{folder}/{file.name}", target.read, f"{folder}/{file.name}")
        if data is None:
            return f"{folder}/{file.name}: missing"
        return None if hashlib.sha256(data).hexdigest() == file.sha256 else f"{folder}/{file.name}: other content"

    with ThreadPoolExecutor(_THREADS) as pool:
        faults = [fault for fault in pool.map(differs, to_send(run)) if fault]
    if faults:
        raise BadInput(f"{faults[0]} ({len(faults)} in all); remove {folder} and upload again")


def planned_run(args: argparse.Namespace) -> Path:
    """The run that the flags mean, whole."""
    if args.run:
        run = find_run(args.run)
        if faults := check_run(run, full=False):
            raise BadInput(f"{faults[0]}; upload only what is whole")
        return run
    known: dict[str, Planned] = {}
    return open_input(plan_stage(args.stage, load_config(args.config, args.assignments), known)).path


def upload(args: argparse.Namespace) -> None:
    log = logging.getLogger("upload")
    run = planned_run(args)
    target = tried(f"--to {args.to}", Target, args.to)
    folder = target.path(run.parent.name, run.name)
    lock = Lock(run.with_name(f".lock-upload-{run.name}"))
    try:
        manifest = tried(folder, target.read, f"{folder}/{MANIFEST}")
        if manifest == (run / MANIFEST).read_bytes():
            log.info("%s is there already", folder)
        elif manifest is not None:
            raise OutputExists(f"{folder}: another run of this name is there; name another --to")
        else:
            copy(run, target, folder, args.batch, log)
            log.info("%s/%s is at %s", run.parent.name, run.name, folder)
        if args.check:
            check(run, target, folder)
            log.info("read back: every sha256 is right")
    finally:
        lock.release()


def main(argv: list[str] | None = None) -> int:
    first, _, rest = __doc__.partition("\n")
    flags = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = flags.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", metavar="RUN", help="a run's folder, or <stage>/<hash>")
    what.add_argument("--stage", choices=STAGES, help="the run of this stage that --config names")
    flags.add_argument("--config", type=Path, metavar="FILE", help="the project's YAML, for --stage")
    flags.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="override one key of it"
    )
    flags.add_argument("--to", required=True, metavar="URL", help="folder to copy to: a path, s3://…, ssh://…")
    flags.add_argument("--batch", type=int, default=100, metavar="N", help="files between two receipts (default 100)")
    flags.add_argument("--check", action="store_true", help="read everything back and compare sha256")
    flags.add_argument("--verbose", action="store_true", help="show tracebacks")
    args = flags.parse_args(argv)
    if args.stage and not args.config:
        flags.error("--stage needs --config")
    if args.batch < 1:
        flags.error("--batch: must be 1 or more")
    with reporting("upload", args.verbose) as ended:
        upload(args)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
