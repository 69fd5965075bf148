"""Which files some rule wants to look into, and how far."""

from __future__ import annotations

import re

HEAD = 64 * 2**10
"""Bytes. Keys, tokens and version files are small and stand at the start."""
FILES_LIMIT = 20_000
"""Files of one layer that are looked into."""
_SHEBANG = 256

_TELLING = re.compile(
    r"""(^|/)(
        \.env(\.[\w-]+)? | \.netrc | \.pypirc | \.npmrc | \.git-credentials | pip\.conf |
        id_(rsa|dsa|ecdsa|ed25519) | [^/]+\.(pem|key) | credentials(\.json)? |
        \.docker/config\.json | \.aws/[^/]+ |
        torch/version\.py | usr/local/cuda[^/]*/version\.(json|txt)
    )$""",
    re.VERBOSE,
)
_SYSTEM = re.compile(
    r"^(usr/(lib|lib64|share|include|src|libexec)|lib|lib64|bin|sbin|etc/ssl|var/lib|proc|sys)/"
    r"|/(site|dist)-packages/|/node_modules/|/lib/python3"
)
_TEXT = re.compile(r"\.(py|sh|txt|json|ya?ml|toml|ini|cfg|conf|env|ipynb|tfvars|properties|md)$")
_PROGRAM = re.compile(r"(^|/)(train|serve)$")
_VERSION = re.compile(r"(torch/version\.py|version\.(json|txt))$")


def head_size(path: str, size: int) -> int:
    """Bytes of the file at `path` (no leading /) to keep; 0 for nearly all of them."""
    if _PROGRAM.search(path):
        return _SHEBANG
    if _TELLING.search(path) and (_VERSION.search(path) or not _SYSTEM.search(path)):
        return HEAD
    if size <= 4 * HEAD and _TEXT.search(path) and not _SYSTEM.search(path):
        return HEAD
    return 0
