"""Frames that tell what their prediction has to be, and what was sent."""

from dataclasses import dataclass

HEADERS = {"Content-Type": "application/msgpack"}

# Values of I and of Q, of 128, from 1: below 0.9, longitudes below 180 degrees, and no silence.
LEVELS_I, LEVELS_Q = 110, 60


@dataclass(frozen=True)
class Sent:
    """A frame that the stream has acknowledged."""

    source: str
    number: int


def levels(number):
    """I and Q of a frame: 6600 frames in a row are all different."""
    return 1 + number % LEVELS_I, 1 + number // LEVELS_I % LEVELS_Q


def body(number, length=128, **keys):
    """A frame of so many samples, with the number as its id."""
    return {"frame_id": str(number), "datatype": "ci8", "samples": bytes(levels(number) * length), **keys}


def has_position_of(number, outcome):
    """Whether a prediction of the model `degrees`, or of one like it, is that of this frame."""
    i, q = levels(number)
    latitude, longitude = outcome["position"]["latitude"], outcome["position"]["longitude"]
    return abs(latitude - i / 128 * 90) < 1e-3 and abs(longitude - q / 128 * 360) < 1e-3
