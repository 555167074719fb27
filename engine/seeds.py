"""Seeds that follow from where they are used, so that none need be saved. Never imports torch."""

import zlib

MASK = 2**64 - 1


def derive(seed: int, *place: int | str) -> int:
    """A 64-bit seed for a place such as ("val", batch): neighbouring places get unrelated ones (SplitMix64).

    Mixing: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = seed & MASK
    for step in place:
        number = step if isinstance(step, int) else zlib.crc32(step.encode())
        state = (state + 0x9E3779B97F4A7C15 * (number + 1)) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state
