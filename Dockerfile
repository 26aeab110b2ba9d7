# geopipe on the CPU. The default command is the main job: train on the simulated scene, and map it.
#   docker build -t geopipe .
#   docker run --rm -v "$PWD:/data" geopipe
FROM python:3.11-slim-bookworm

# libexpat is what the wheels of GDAL expect of the system.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libexpat1 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /geopipe
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    --requirement requirements.lock
COPY geopipe geopipe
COPY workflows workflows
COPY sample_tiles sample_tiles
RUN pip install --no-cache-dir --no-deps .

# Models and maps belong to the user who runs the container, also where that one has no name in it.
ENV HOME=/tmp
WORKDIR /data
CMD ["geopipe", "run", "/geopipe/workflows/forez.toml", "--set", "out=/data/outputs/forez"]
