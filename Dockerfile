# voxmake in one image. Build: `make docker-build`; run: `make docker-run STAGE=all CONFIG=…` (docs/container.md).
#
# Any base with apt and Python 3.11 or newer will do. For builds that can be repeated, pin it by digest:
#   make docker-build BASE_IMAGE=nvidia/cuda:13.0.1-runtime-ubuntu24.04@sha256:…
ARG BASE_IMAGE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
FROM ${BASE_IMAGE}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Everything that libraries want to keep between runs goes below /cache: mount a volume or a tmpfs there when
# the root is read-only. World-writable and sticky, so that `--user` may be anybody.
RUN install -d -m 1777 /cache /data
ENV HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch \
    NUMBA_CACHE_DIR=/cache/numba \
    MPLCONFIGDIR=/cache/matplotlib \
    VOXMAKE_DATA=/data \
    VOXMAKE_ENVS=/opt/voxmake/envs \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYANNOTE_METRICS_ENABLED=0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /voxmake

# The environment changes seldom and the code often: its files come first, and their layer stays cached.
COPY docker/setup.py docker/
COPY docker/requirements docker/requirements
RUN PIP_NO_CACHE_DIR=1 python3 docker/setup.py

COPY . .
# A cached environment layer may be older than the files just copied; what they say is in it all the same.
RUN touch "$VOXMAKE_ENVS/core/.ready"

ARG COMMIT=unknown
ENV VOXMAKE_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="voxmake" \
      org.opencontainers.image.description="From recordings to a voice, from a voice to audited programmes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"

USER 1000:1000
ENTRYPOINT ["docker/entrypoint.sh"]
CMD ["help"]
