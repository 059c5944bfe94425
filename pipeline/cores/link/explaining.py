"""Say why two tracklets are or are not one person, in terms that a person can check on the video."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.cores.likeness import Likeness, Likenesses
from pipeline.cores.link.pairs import SEAT, Links
from pipeline.cores.link.params import IdentityParams
from pipeline.cores.link.verdicts import Verdicts, reach_of

MOST_ODDS = 10_000


def most_doubtful(joined: NDArray[np.bool_], margins: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Return the rows of the `number` pairs nearest to the decision, nearest first, half of them joined.

    joined, margins: (L,). Pairs that no evidence decides have the margin nan and are left out. If one side has fewer
    pairs, the other one fills up.
    """
    order = np.lexsort((np.arange(len(margins)), np.abs(margins)))
    order = order[~np.isnan(margins[order])]
    is_joined = joined[order]
    num_joined, num_apart = int(is_joined.sum()), int((~is_joined).sum())
    from_joined = min(num_joined, max(number // 2, number - num_apart))
    ranks = np.where(is_joined, np.cumsum(is_joined), np.cumsum(~is_joined))
    return order[ranks <= np.where(is_joined, from_joined, number - from_joined)]


def explain(links: Links, row: int, verdicts: Verdicts, params: IdentityParams, likenesses: Likenesses) -> str:
    """Return the reason of one pair, with the figures that decided and what they are compared with."""
    gap_s, size = float(links.gap_s[row]), float(links.size[row])
    motion, reach = float(links.motion[row]), float(reach_of(links.gap_s, params)[row])
    similar = _similarities(links, row, likenesses)
    odds = _odds(row, verdicts)
    returns = (
        f"still {motion:.2f} body heights from where somebody kept still before a jump in time"
        if links.kind[row] == SEAT
        else f"{motion:.1f} body heights from the predicted place after {gap_s:.1f} s, where {reach:.1f} are usual"
    )
    tallest = float(links.size_limit[row])
    taller = f"one is {size:.2f} times as tall as the other at the gap, at most {tallest:.2f} times"
    limit = (
        f"{gap_s:.0f} s apart; gaps are bridged up to {params.max_gap_s:g} s (identity.max_gap_s), and bodies are "
        f"compared up to {params.max_absence_s:g} s inside a shot (identity.max_absence_s) and up to "
        f"{params.shot_max_s:g} s in different shots (identity.shot_max_s)"
    )
    by_evidence = "; ".join([*similar, *([returns, taller] if verdicts.is_gap[row] else []), odds])
    reasons: Mapping[str, str] = {
        "too late": limit,
        "other size": taller,
        "no appearance": "one of them has no embedding, and motion alone bridges no gap",
        "other face": "; ".join(similar),
        "unlike": "; ".join(similar),
        "too far": returns,
        "seen together": "they, or tracklets that belong to them, are in one frame",
        "others fit": f"{by_evidence}: this pair alone would do, but others fit better or as well, or speak against it",
        "through others": f"both belong to others; by themselves: {by_evidence}",
    }
    return reasons.get(str(links.why[row]), by_evidence)


def _similarities(links: Links, row: int, likenesses: Likenesses) -> list[str]:
    """Return a clause for each kind of embedding that both tracklets have."""
    both = {"face": links.face_similarity[row], "body": links.body_similarity[row]}
    return [
        f"{'faces' if kind == 'face' else 'bodies'} are {_hundredths(value)} similar, where {_usual(likenesses[kind])}"
        for kind, value in both.items()
        if not np.isnan(value)
    ]


def _usual(likeness: Likeness) -> str:
    same, other = (_hundredths(1 - float(np.exp(stats.mean))) for stats in (likeness.same, likeness.other))
    return f"one person here is {same} and two are {other}"


def _odds(row: int, verdicts: Verdicts) -> str:
    """Return the odds that the evidence gives for one person, and those that are needed."""
    odds = float(verdicts.odds[row])
    if np.isnan(odds):
        return "nothing could be compared"
    return f"odds for one person {_ratio(float(np.exp(odds)))}, needed {_ratio(float(np.exp(verdicts.needed[row])))}"


def _ratio(odds: float) -> str:
    """Return odds in words: 19 to 1, 1 to 3."""
    if odds >= 1:
        return f"over {MOST_ODDS:,} to 1" if odds > MOST_ODDS else f"{odds:,.{1 if odds < 10 else 0}f} to 1"
    return f"1 to over {MOST_ODDS:,}" if odds < 1 / MOST_ODDS else f"1 to {1 / odds:,.{1 if odds > 0.1 else 0}f}"


def _hundredths(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)
