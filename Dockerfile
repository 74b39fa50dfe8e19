# CPU:   docker build --tag dcgan .
#        docker run --rm dcgan
# CUDA:  docker build --tag dcgan-cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#        docker run --rm --gpus all --ipc host dcgan-cuda .venv/bin/python -m dcgan.train trainer=gpu
# Files: docker run --name demo dcgan && docker cp demo:/dcgan/runs .
ARG BASE=python:3.12-slim
FROM ${BASE}

# no versions: they are those of the base image's distribution; the CUDA images have no Python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && { command -v python3 || apt-get install --yes --no-install-recommends python3 python3-venv; } \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home dcgan \
    && install --directory --owner dcgan /dcgan
USER 10001
WORKDIR /dcgan

# as `make install`, in two layers: the packages are installed again only if the lock file changes
COPY --chown=10001 requirements.lock ./
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY --chown=10001 . .
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && touch .venv/installed

CMD ["make", "demo"]
