"""Addresses of servers, which come from the environment, and packages that only some jobs need."""

import importlib.util
import os
import sys
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from recsys_spark.errors import UsageError
from recsys_spark.errors.redaction import remember_secrets


@dataclass(frozen=True)
class Server:
    """The address of a server, which may hold a password: it is in no text of this object."""

    variable: str
    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """Host and port, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or parts.path}{f':{parts.port}' if parts.port else ''} ({self.variable})"

    def hide_secrets(self) -> None:
        """Remove the password from all texts of this process from now on, in any form."""
        parts = urlsplit(self.url)
        options = [value for name, value in parse_qsl(parts.query) if "pass" in name.lower()]
        for value in [parts.password, *options]:
            if value:
                remember_secrets({"password": value})
                remember_secrets({"password": unquote(value)})


def server(variable: str, schemes: tuple[str, ...], *, name: str) -> Server:
    """The server whose address is in an environment variable.

    Raises:
        UsageError: there is no address, or it has another scheme or form. The message does not show it.
    """
    example = f"export {variable}={schemes[0]}://HOST"
    url = os.environ.get(variable, "")
    if not url:
        raise UsageError(f"{name} needs the address of the server in the environment: {example}")
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in schemes:
        shown = f"begins with '{scheme}://'" if scheme.isalnum() else "has no scheme"
        raise UsageError(f"{variable} {shown}; {name} needs {' or '.join(f'{one}://' for one in schemes)}: {example}")
    try:
        address = Server(variable, url)
        address.hide_secrets()
        assert address.name
    except ValueError:  # its text may quote the address
        raise UsageError(f"{variable} is not an address: {example}") from None
    return address


def check_installed(module: str, requirement: str, *, name: str) -> None:
    """Check for an optional package before any work is done.

    Raises:
        UsageError: it is missing; the message names the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise UsageError(
            f"{name} needs the package {module}, here and on all executors: "
            f"{sys.executable} -m pip install '{requirement}'"
        )
