"""What geopipe does on a GPU: agreement, speed, and trainings that a CPU has no time for.

    python -m benchmarks.gpu [--only a b] [--skip c] [--limit c=900] [--size tiny --device cpu]

Each part is a process of its own with a time limit, so that one that hangs or fails leaves the
others alone; together the limits are 8 minutes. Nothing is fetched from a network: what is missing
is named. Scenes and models stay in ``outputs/gpu``, and a training that ran out of time goes on
with the same command. Writes ``docs/results/gpu/gpu.json`` and, from it, ``README.md``.

``--size tiny --device cpu`` runs all of it small, without a GPU: what it writes are no figures of
a GPU, and lies below ``outputs/gpu``.
"""
