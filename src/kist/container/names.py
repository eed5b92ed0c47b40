"""Names for containers that were given none: two words, an adjective and a Scots noun, like `canny_kist`."""

from __future__ import annotations

import random
import secrets
import string

from kist.model.errors import InvalidParameter

_ADJECTIVES = (
    "able", "amber", "agile", "apt", "bold", "bonnie", "bright", "brisk", "calm", "canny", "civil", "clear",
    "clever", "cosy", "couthy", "crisp", "deft", "douce", "dapper", "eager", "early", "easy", "fair", "fast",
    "fell", "fine", "fleet", "fond", "frank", "free", "fresh", "gallus", "gentle", "glad", "gleg", "golden",
    "grand", "hale", "happy", "hardy", "honest", "humble", "jolly", "just", "keen", "kind", "leal", "light",
    "lithe", "lively", "loyal", "lucky", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient",
    "plain", "plucky", "polite", "prime", "proud", "quick", "quiet", "ready", "rosy", "royal", "sage", "serene",
    "sharp", "silver", "simple", "smart", "snell", "snug", "sober", "solid", "sonsie", "sound", "spry", "steady",
    "steely", "still", "stoic", "sturdy", "sunny", "swift", "tidy", "trig", "true", "trusty", "upbeat", "valiant",
    "vivid", "warm", "wary", "whole", "wise", "witty", "young", "zesty",
)  # fmt: skip
_NOUNS = (
    "aspen", "auk", "badger", "bairn", "beck", "ben", "birk", "bothy", "brae", "brig", "broch", "brock", "burn",
    "cairn", "clachan", "corrie", "crag", "croft", "curlew", "dipper", "dirk", "dram", "eider", "ermine", "fell",
    "firth", "frith", "ghillie", "glen", "gowan", "grouse", "haar", "harbour", "hare", "hart", "haven", "heather",
    "heron", "howff", "isle", "jackdaw", "kelpie", "kirk", "kist", "kittiwake", "knowe", "laird", "lapwing", "lark",
    "laverock", "links", "linn", "linnet", "loan", "loch", "lochan", "machair", "marten", "mavis", "merle",
    "merlin", "moor", "munro", "neuk", "osprey", "otter", "oxter", "partan", "petrel", "piper", "plaid", "plover",
    "puffin", "quaich", "quern", "raven", "reel", "robin", "rowan", "sark", "scaup", "scree", "seal", "selkie",
    "shieling", "skerry", "skua", "spate", "sporran", "stag", "strath", "swift", "tarn", "tern", "thistle",
    "thrush", "tinker", "tod", "toom", "trow", "tweed", "vole", "wagtail", "whin", "whooper", "wren", "yett",
    "yowe",
)  # fmt: skip
ALLOWED = frozenset(string.ascii_letters + string.digits + "_.-")


def new_id() -> str:
    """64 random hex digits whose first 12 are not all decimal (they would look like a number)."""
    while True:
        identifier = secrets.token_hex(32)
        if not identifier[:12].isdecimal():
            return identifier


def random_name(attempt: int = 0) -> str:
    """A name; from the second attempt on with a digit behind it."""
    name = f"{random.choice(_ADJECTIVES)}_{random.choice(_NOUNS)}"
    return name if attempt == 0 else f"{name}{random.randrange(10)}"


def check_name(name: str) -> str:
    """A name without its slash. Raises InvalidParameter with Docker's text."""
    bare = name.removeprefix("/")
    if len(bare) < 2 or not (bare[0].isascii() and bare[0].isalnum()) or not ALLOWED.issuperset(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare
