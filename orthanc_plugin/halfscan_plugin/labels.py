"""Several images in one place: which of them belong together."""

from collections.abc import Sequence

from halfscan_plugin.completeness import cover, keep_whole, lacking, without_last_slice
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.parts import Located, Part, located
from halfscan_plugin.phases import CLOCKS, PHASES, TIMES, by_phase, by_time, number_of, orders
from halfscan_plugin.slices import Slice

__all__ = ["separate"]

# What always tells volumes apart, also where one of them lacks an image. Other labels do so where
# all volumes come out whole, or where nothing else explains the images: a time of acquisition may
# differ from slice to slice.
CERTAIN = {
    "kind",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
}
NAMED = 4  # instances in a message


def separate(
    slices: Sequence[Slice], numbers: set[int], names: Sequence[str]
) -> tuple[list[Part], tuple[str, ...]]:
    """Separate images that lie in one place: echoes, times, diffusion weightings, stations.

    Parameters
    ----------
    slices : sequence of Slice
        Images of one orientation, in the order of their numbers.
    numbers : set of int
        Numbers of all images beside which these were numbered.
    names : sequence of str
        SOPInstanceUID of each object, for messages.

    Returns
    -------
    list of Part
        Volumes: parts of which no two images lie in one place, whole ones only.
    tuple of str
        What was left out, and why.

    Raises
    ------
    UnreadableSeries
        ``missing_slices`` if a volume lacks an image that there once was; ``ambiguous_geometry``
        if nothing tells the images of one place apart, and their number differs from place to
        place.
    """
    parts = [Part(located(slices))]
    for keyword in dict.fromkeys(key for image in slices for key, _ in image.labels):
        parts = [piece for part in parts for piece in _by_label(part, keyword)]
    explained = [_by_the_rest(part, numbers, names) for part in parts]
    whole, warnings = keep_whole(
        [piece for parts, _ in explained for piece in parts], numbers, names
    )
    return whole, (*(text for _, texts in explained for text in texts), *warnings)


def _by_label(part: Part, keyword: str) -> list[Part]:
    """Separate by the value of a label, if it separates images that lie in one place."""
    if not part.is_crowded:
        return [part]
    pieces = part.by_label(keyword)
    if sum(len(piece.places) for piece in pieces) == len(part.places):
        return [part]  # it tells places apart, no images
    whole = all(piece.places == part.places for piece in pieces)
    if whole or (keyword in CERTAIN and not _is_running(pieces)):
        return pieces
    return [part]


def _by_the_rest(
    part: Part, numbers: set[int], names: Sequence[str]
) -> tuple[list[Part], tuple[str, ...]]:
    """Separate what no label separates into whole volumes; say what is left out.

    With as many images in each place, their order does: the first of each place, the second, ...
    Else some volumes have fewer images than others, and the first of these explanations holds
    under which there are whole volumes: values of a label, phases of the heart beat, times of the
    clock, numbers; or the last slice was stopped.
    """
    counts = set(part.counts().values())
    if counts == {1}:
        return [part], ()
    if len(counts) == 1:
        return _by_order(part), ()
    keywords = list(dict.fromkeys(key for item in part.images for key in item.labels))
    labelled = [pieces for key in keywords if _collects(pieces := part.by_label(key))]
    in_time = [by_phase(part, key) for key in keywords if key in PHASES]
    in_time += [by_time(part, key) for key in keywords if key in CLOCKS]
    in_time.append(by_time(part))
    for pieces in (*labelled, *filter(_collects, in_time)):
        if cover(pieces, numbers):
            return pieces, ()
    stopped = without_last_slice(part, numbers, names)
    if stopped is not None:
        return _by_order(stopped[0]), stopped[1:]
    # A label that collects the images of a volume tells them apart, even if none is whole.
    raise lacking(labelled[0]) if labelled else _ambiguous(part, names)


def _collects(pieces: Sequence[Part]) -> bool:
    """Tell whether an explanation gives volumes: several images, no two of them in one place."""
    return not _is_running(pieces) and not any(piece.is_crowded for piece in pieces)


def _is_running(pieces: Sequence[Part]) -> bool:
    """Tell whether a label has another value in each image, and so collects nothing."""
    return all(len(piece.images) == 1 for piece in pieces)


def _by_order(part: Part) -> list[Part]:
    """Separate the first image of each place, the second, ...: in time where that is known."""
    keyword = next((key for key in TIMES if orders(part, key)), None)
    seen = dict.fromkeys(part.places, 0)
    ranks: dict[Located, str] = {}
    for item in sorted(part.images, key=lambda item: number_of(item, keyword) if keyword else 0):
        seen[item.place] += 1
        ranks[item] = str(seen[item.place])
    pieces = part.split("order", [ranks[item] for item in part.images])
    return sorted(pieces, key=lambda piece: int(piece.labels[-1][1]))


def _ambiguous(part: Part, names: Sequence[str]) -> UnreadableSeries:
    counts = part.counts()
    most, fewest = max(counts.values()), min(counts.values())
    crowded = next(place for place, count in counts.items() if count == most)
    sources = [item.image.source for item in part.images if item.place == crowded]
    instances = ", ".join(names[source] for source in sources[:NAMED])
    return UnreadableSeries(
        "ambiguous_geometry",
        f"{most} images lie in one place and nothing tells them apart, {fewest} in others: "
        f"instances {instances}{', ...' if len(sources) > NAMED else ''}",
    )
