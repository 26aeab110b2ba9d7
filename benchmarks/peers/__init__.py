"""What geopipe is measured against, each run in a process of its own (``-m benchmarks.peers``)."""
