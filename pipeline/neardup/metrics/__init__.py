"""How well a threshold separates: arrays of distances in, thresholds and rates out.

An **exemplar** is one altered picture. Two distances of it are known: to the nearest correct reference (its original)
and to the nearest incorrect one (any other). `rules` are those of the reference documents, which judge thresholds by
these two alone; `rates` says what a threshold finds and lets through, of exemplars and of pairs, and how sure that is.
"""
