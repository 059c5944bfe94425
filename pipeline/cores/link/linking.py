"""Decide which tracklets of a video are the same person.

There are three steps. `tracklets` summarises the tracklets of each shot. `calibration` learns from the video how much
a similarity means in it, and `pairs` measures candidate pairs of tracklets (`Links`). Over a gap inside a shot it
uses motion in both directions, size and appearance, and over shots it uses face and body. `joining` decides from
these numbers and from the frames that tracklets share, and from nothing else. So the rate of wrong joins can be
changed long after the embeddings are gone.

Evidence is added as log-likelihood ratios. Two tracklets are joined if the probability that they are two people is
at most `wrong_joins`. Two tracklets that share a frame, filled frames included, are two people. Whole groups are
checked for this before every merge. Tracklets stay apart if the evidence is not sure.

Numbers are rounded before they decide, and tracklets are first sorted by first appearance. So neither their order
nor their names change the result. Of equally near candidates the earlier one comes first, so that cores.relink finds
the same ones among the stored pairs.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import WIDE, Likenesses
from pipeline.cores.link.calibration import calibrate
from pipeline.cores.link.joining import join
from pipeline.cores.link.pairs import Links, measure
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.tracklets import Tracklet, appearance_key
from pipeline.cores.place import Scenes


def link(
    tracklets: Sequence[Tracklet],
    params: IdentityParams,
    likenesses: Likenesses | None = None,
    scenes: Scenes | None = None,
) -> tuple[Links, NDArray[np.int64]]:
    """Return the links between the tracklets of one video, and the person of each: (N,) int64 labels 0, 1, 2…

    likenesses: the result of `calibrate`. By default it is computed from the video and the WIDE prior.
    scenes: the shots that show one place. None if no cut is known to stay in one place.

    Persons are labelled and links ordered by first appearance, whatever the order of `tracklets`.
    """
    order = sorted(range(len(tracklets)), key=lambda index: appearance_key(tracklets[index]))
    ordered = [tracklets[index] for index in order]
    likenesses = likenesses or calibrate(ordered, WIDE)
    shots = np.array([tracklet.shot for tracklet in ordered], np.int64)
    intervals = [tracklet.intervals for tracklet in ordered]
    links, labels = join(measure(ordered, params, scenes), shots, intervals, params, likenesses)
    places = np.array(order, np.int64)
    persons = np.empty(len(tracklets), np.int64)
    persons[places] = labels
    return replace(links, a=places[links.a], b=places[links.b]), persons
