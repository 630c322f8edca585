"""Remove secrets from texts: passwords, keys and tokens must not reach a message, a log or a file."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"

_MARKED = (
    r"secret|passw(?:or)?d|passphrase|\bpwd\b|credential|account[._-]?key|access[._-]?key|api[._-]?key"
    r"|private[._-]?key|encryption[._-]?key|\bsas\b|token(?![a-z]*iz|s\b|s_)"
)

_SECRET_NAME = re.compile(_MARKED, re.IGNORECASE)

_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"',;&)}\]]+)"""

_RULES: list[tuple[re.Pattern[str], str]] = [
    # scheme://user:password@host. A single name may be a token in https URLs; elsewhere it names a container.
    (re.compile(r"(://[^\s/@:'\"]*:)[^\s/'\"]*(?=@)"), rf"\1{HIDDEN}"),
    (re.compile(r"(https?://)[^\s/@:'\"]+(?=@)"), rf"\1{HIDDEN}"),
    # Signed URLs of the stores.
    (re.compile(r"([?&](?:sig|signature|X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId)=)[^\s&'\")]+",
                re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b((?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
    # name=value, name: value, "name": "value"; a bare word `token:` is prose.
    (re.compile(rf"""([\w.-]*(?:{_MARKED})[\w.-]*["']?\s*=\s*){_VALUE}""", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"""(["'][\w.-]*(?:{_MARKED})[\w.-]*["']\s*:\s*){_VALUE}""", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"""(\b(?:password|[\w.-]+[._-](?:{_MARKED}))\s*:\s*){_VALUE}""", re.IGNORECASE), rf"\1{HIDDEN}"),
]  # fmt: skip

_SHORTEST = 6
"""Least length of a secret value that is hidden wherever it occurs; a shorter one may be an ordinary word."""

_secrets: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether an option or environment variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


def remember_secrets(options: Mapping[str, Any]) -> None:
    """Hide the values of secret options in all texts from now on, in any context."""
    _secrets.update(_long_enough(str(value) for name, value in options.items() if is_secret_name(name)))


def redacted(text: str) -> str:
    """The text without passwords, keys, tokens and signatures."""
    environment = _long_enough(value for name, value in os.environ.items() if is_secret_name(name))
    for value in sorted(_secrets | environment, key=len, reverse=True):
        for form in (value, quote(value, safe="")):
            text = text.replace(form, HIDDEN)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redacted_report(value: Any) -> Any:
    """Mappings and lists with every text redacted and every text under the name of a secret hidden."""
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(part, str) and is_secret_name(str(name)) else redacted_report(part)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_report(part) for part in value]
    return redacted(value) if isinstance(value, str) else value


def _long_enough(values: Iterable[str]) -> set[str]:
    # A path is no secret: it names the file that holds one.
    return {value for value in values if len(value) >= _SHORTEST and not value.startswith(("/", "./"))}
