"""Packages of the optional group `vocoder`."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from voxmake.errors import Failure


def need(name: str, wanted_by: str) -> ModuleType:
    """Import one of pysptk, pyworld, pesq, pystoi.

    Raises:
        Failure: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # pysptk imports pkg_resources, whose end is announced; docker/requirements/core.in keeps it.
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            return importlib.import_module(name)
    except ImportError:
        raise Failure(f"{wanted_by}: {name} is not installed; run `python3 docker/setup.py --group vocoder`") from None
