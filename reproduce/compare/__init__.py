"""How well `geopipe compare` finds edits that were planted in OpenStreetMap.

    python -m reproduce.compare

Buildings: Banepa of ``GEOPIPE_DATA``. Its OSM block is taken as the truth. The *map* is that truth
drawn on the scene's pixels and spoilt in a known way (`draw_map`): buildings missing, false ones
added, each with a probability. The *reference* is the truth with planted edits (`plant`). No
network takes part: the page measures matching, alignment and thresholds, not a model.

Then a *trained* map of Banepa's test part (`trained`), where ``reproduce.real.run`` has made one.

Roads: the true roads of a simulated tile of ``sample_tiles`` as map, with planted edits as
reference. Writes ``docs/results/compare.{json,md}``.
"""
