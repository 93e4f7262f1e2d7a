"""The random number of a token: a function of the request's seed and the token's index alone.

So a request draws the same numbers in any batch, on any number of stages, on any engine, and after
it moved to another worker. Philox4x32-10 is that of Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3" (SC'11); the constants are theirs. Whole numbers only: one draw costs some
microseconds, and no library's idea of a stream comes between.
"""

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF

Words = tuple[int, int, int, int]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds over 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, index: int) -> float:
    """The number in (0, 1) of the token at an output index, counted over all attempts.

    Key: the seed's low and high word. Counter: the index's low and high word, then zeros. The
    first word x of the result becomes (x + 1/2) / 2^32, which is never 0 and never 1.
    """
    words = philox4x32((index & _MASK, index >> 32, 0, 0), (seed & _MASK, seed >> 32))
    return (words[0] + 0.5) / 2**32
