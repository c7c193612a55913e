"""A tokeniser on disk: centroids with all that decides which features they are centroids of.

`kmeans.safetensors` holds `centroids` [K, D] float32, `kmeans.json` the rest. Its `tokeniser` is a sha256 over the
features, the model's weights, the grid and the centroids: whatever is trained on units stores it, and
refuses the units of another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from voxmake.errors import BadInput
from voxmake.units.assign import Centroids
from voxmake.units.features import RATE_HZ, FeatureSpec, Grid, to_16k

CENTROIDS, FACTS = "kmeans.safetensors", "kmeans.json"


@dataclass(frozen=True)
class Tokeniser:
    """Turns speech into units.

    Attributes:
        features: what is clustered.
        model_digest: digest of the transformers model's folder; empty for mfcc.
        grid: hop and window.
        centroids: [K, D] float32.
    """

    features: FeatureSpec
    model_digest: str
    grid: Grid
    centroids: np.ndarray

    def facts(self) -> dict:
        """kmeans.json, less what the run knows."""
        facts = {
            "clusters": len(self.centroids),
            "dims": self.centroids.shape[1],
            "rate_hz": RATE_HZ,
            "hop_samples": self.grid.hop,
            "window_samples": self.grid.window,
            "features": asdict(self.features),
            "convention": self.features.convention,
            "model_digest": self.model_digest,
            "centroids_sha256": hashlib.sha256(self.centroids.tobytes()).hexdigest(),
        }
        text = json.dumps(facts, sort_keys=True)
        return facts | {"tokeniser": hashlib.sha256(text.encode()).hexdigest()}

    def encode(self, samples: np.ndarray, rate_hz: int, model: str | None = None) -> np.ndarray:
        """Units of one recording, as encode_units makes them.

        Args:
            samples: mono float32, shape (n,).
            model: folder of the transformers model.

        Returns:
            int64, shape (frames,).
        """
        engine = self.features.load(model)
        found = engine.encode([to_16k(samples, rate_hz)])[0].astype(self.features.cache).astype(np.float32)
        return Centroids(self.centroids).nearest(found)


def centroids_bytes(centroids: np.ndarray) -> bytes:
    """kmeans.safetensors."""
    from safetensors.numpy import save

    return save({"centroids": centroids})


def open_tokeniser(run: Path) -> Tokeniser:
    """The tokeniser of a run of encode_units.

    Raises:
        BadInput: centroids and facts don't belong together.
    """
    from safetensors.numpy import load_file

    facts = json.loads((run / FACTS).read_text(encoding="utf-8"))
    found = Tokeniser(
        FeatureSpec(**facts["features"]),
        facts["model_digest"],
        Grid(facts["hop_samples"], facts["window_samples"]),
        load_file(run / CENTROIDS)["centroids"],
    )
    if found.facts()["tokeniser"] != facts["tokeniser"]:
        raise BadInput(f"{run}: {CENTROIDS} and {FACTS} don't belong together; make the run again")
    return found


def export_sklearn(run: Path, target: Path) -> None:
    """Write a scikit-learn KMeans with a run's centroids, as joblib pickles it. Load such a file only if you made it."""
    import joblib
    from sklearn.cluster import KMeans

    centroids = open_tokeniser(run).centroids
    model = KMeans(len(centroids), init=centroids, n_init=1, max_iter=1).fit(centroids)
    model.cluster_centers_ = centroids
    joblib.dump(model, target)
