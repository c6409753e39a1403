"""Model observers: readers without eyes, for tasks whose truth is known.

Arrays in, numbers out: `channels` are what such an observer sees of an image, `hotelling` is how it
decides, `roc` and `forced_choice` are how often it is right. Nothing here knows of scans or
networks; `halfscan_models.evaluation.trials` makes the images.
"""
