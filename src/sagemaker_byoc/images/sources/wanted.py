"""Which files some rule wants to look into, and how far."""

from __future__ import annotations

import re
from enum import Enum, auto

HEAD = 64 * 2**10
"""Bytes. Keys, tokens and version files are small, or start with what tells them."""
FILES_LIMIT = 20_000
"""Files of one layer that are looked into."""
BYTES_LIMIT = 128 * 2**20
"""Bytes kept of one layer's files."""
SNIFFED = 512
_TEXT_LIMIT = 2**20
_UNNAMED_LIMIT = HEAD


class Look(Enum):
    """Whether a file is looked into."""

    NO = auto()
    YES = auto()
    IF_TEXT = auto()
    """If its first bytes hold no zero: private keys and tokens have any name."""


_TELLING = re.compile(
    r"""(^|/)(
        \.env(\.[\w-]+)? | [\w-]+\.env | [._]netrc | \.pypirc | \.npmrc | \.yarnrc(\.yml)? |
        \.git-credentials | \.gitconfig | \.git/(config|credentials) | \.config/git/credentials |
        pip\.conf | \.condarc | \.pgpass | \.my\.cnf | \.s3cfg | \.boto | \.databrickscfg |
        rclone\.conf | \.vault-token | \.kube/config | \.config/gh/hosts\.yml | \.dockercfg |
        \.docker/config\.json | containers/auth\.json | \.aws/[^/]+ | \.azure/[^/]+\.json |
        gcloud/[^/]+\.json | kaggle\.json | \.?huggingface/(token|stored_tokens) |
        \.cargo/credentials(\.toml)? | \.gem/credentials | \.m2/settings\.xml |
        credentials(\.\w+)? | \.ssh/[^/]+ | id_(rsa|dsa|ecdsa|ed25519)[^/]* |
        [^/]+\.(pem|key|p8|pk8|ppk|tfvars|tfstate)
    )$""",
    re.VERBOSE,
)
_SYSTEM = re.compile(
    r"""^(
        usr/(lib|lib32|lib64|libx32|share|include|libexec|s?bin|games) |
        lib | lib32 | lib64 | libx32 | bin | sbin | proc | sys | dev |
        etc/(ssl/certs|ssh|ca-certificates|pki/(?!tls/private)[^/]+) |
        etc/(java|fonts|X11|chromium[^/]*|alternatives) |
        var/(cache|lib/(dpkg|apt|gems|python|rpm|dnf|yum|systemd|pam)) |
        usr/local/(go|lib|lib64|libexec|share|include|cuda[^/]*|rustup|nvidia) |
        opt/(nvidia|java|amazon) | usr/src/linux[^/]*
    )/
    | (^|/)(
        (site|dist)-packages | node_modules | lib(64)?/(python|pypy|R|ruby|node)[^/]* |
        (ana|mini|micro|mamba)?(conda|forge|mamba)\d*/(envs/[^/]+/)?
            (pkgs|lib|share|include|ssl|conda-meta) |
        pkg/mod | registry/src | gems | \.rustup | \.nuget | \.cache/(pip|uv) |
        [^/]+\.(dist|egg)-info
    )/""",
    re.VERBOSE,
)
"""Folders that package managers fill; their test keys and sample configurations open nothing."""
_TEXT = re.compile(
    r"\.(py|sh|txt|json|ya?ml|toml|ini|cfg|conf|config|env|ipynb|tfvars|properties|md|xml|js|ts|"
    r"rst|bash|zsh|r|R|sql|log|csv|jsonl|Dockerfile)$"
)
_FACTS = re.compile(
    r"(^|/)(torch/version\.py|usr/local/cuda[^/]*/version\.(json|txt))$|^etc/(passwd|group)$"
)


def look(path: str, size: int) -> Look:
    """Tell whether to look into the file at `path` (no leading /): no, for nearly all of them."""
    if _FACTS.search(path):
        return Look.YES
    if not size or _SYSTEM.search(path):
        return Look.NO
    if _TELLING.search(path):
        return Look.YES
    if size <= (_TEXT_LIMIT if _TEXT.search(path) else _UNNAMED_LIMIT):
        return Look.IF_TEXT
    return Look.NO
