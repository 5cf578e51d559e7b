"""Names for containers that were not given one, in docker's form: adjective_surname. People of computing."""

from __future__ import annotations

import os

_ADJECTIVES = (
    "able agile amber apt astute bold brave breezy bright brisk calm candid careful cheerful clear clever cosmic "
    "crisp curious daring deft eager earnest easy elegant exact fair fearless fine fleet fond frank fresh friendly "
    "frugal gentle glad golden graceful grand happy hardy honest hopeful humble ideal jolly jovial keen kind lively "
    "logical loyal lucid lucky mellow merry mindful modest neat nimble noble open patient peaceful plucky polite "
    "prime prompt proud quick quiet ready robust serene sharp silent simple sincere sleek smooth snug solid sound "
    "spry steady stellar sturdy sunny swift tidy tranquil trusty upbeat valiant vivid warm wise witty zesty"
).split()
_SURNAMES = (
    "adleman agnesi allen babbage backus bartik bernerslee blackwell boole borg brooks cerf church clarke codd conway "
    "cook curry darwin dijkstra easley engelbart estrin euler feynman floyd fourier galois gauss germain goldberg "
    "goldwasser gosling hamilton hamming hellman hoare hopper huffman hypatia jennings johnson joy karp kay kernighan "
    "kilby kleene knuth lamarr lamport liskov lovelace mccarthy mcilroy meitner metcalfe milner minsky moore morris "
    "naur newell noether noyce ousterhout papert perlman pike postel rabin ramanujan ritchie rivest rosen shamir "
    "shannon shaw simon sutherland tanenbaum tarjan thompson torvalds turing ullman valiant vaughan wilkes wilson "
    "wing wirth yao yonath zuse"
).split()


def random_name() -> str:
    """About 14,000 of them; who claims one tries another when it is taken."""
    first, second = int.from_bytes(os.urandom(4), "little"), int.from_bytes(os.urandom(4), "little")
    return f"{_ADJECTIVES[first % len(_ADJECTIVES)]}_{_SURNAMES[second % len(_SURNAMES)]}"
