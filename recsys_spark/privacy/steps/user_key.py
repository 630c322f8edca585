"""Read the key of pseudonyms, and refuse a lake that was made with another one."""

import os
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError, UsageError
from recsys_spark.errors.redaction import remember_secrets
from recsys_spark.privacy.pseudonyms import PADS, fingerprint, hmac_pads, is_pseudonym, pseudonym
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.places import shipped
from recsys_spark.tables.schemas import EVENTS

_LEAST_BYTES = 16


@dataclass(frozen=True)
class UserKey:
    """The secret of a lake whose user ids are pseudonyms; its ``repr`` does not show it."""

    secret: bytes

    def __repr__(self) -> str:
        return f"UserKey({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """For provenance and run keys."""
        return fingerprint(self.secret)

    def pads(self, run: Run) -> DataFrame:
        """One row of PADS."""
        return run.spark.createDataFrame([hmac_pads(self.secret)], PADS)


def user_key(run: Run, name: str | None) -> UserKey | None:
    """The key that ``--user_key`` names; None without one.

    Raises:
        UsageError: there is no such variable or file, the secret is too short, or the lake was made with another key,
            or without one.
    """
    key = None if name is None else UserKey(_secret(name))
    last = run.lake.last_commit(EVENTS)
    if last is None:
        return key
    made_with = last.provenance.user_key
    if made_with == key_id(key):
        return key
    if key is None:
        raise UsageError(
            f"the user ids of lake {run.lake.uri} are pseudonyms: pass --user_key=NAME, the name of the environment "
            "variable or of the file that holds its key"
        )
    if made_with is None:
        raise UsageError(
            f"lake {run.lake.uri} holds raw user ids, in old versions and files too: leave "
            f"--user_key out, or ingest the "
            "sources into a new lake with it"
        )
    raise UsageError(
        f"lake {run.lake.uri} was made with another user key (fingerprint {made_with}, this one has "
        f"{key.fingerprint}): users would appear twice. Pass the key of the lake; to rotate "
        f"it, ingest the sources into "
        "a new lake (recsys_spark/privacy/README, Rotate the key)"
    )


def key_id(key: UserKey | None) -> str | None:
    """The fingerprint of a key; None without one."""
    return None if key is None else key.fingerprint


def stored_user_id(run: Run, user_id: str, key_name: str | None) -> str:
    """The id under which a lake stores a user: of a raw id with a key its pseudonym; a pseudonym stays.

    Raises:
        UsageError: as ``user_key``, unless the id is a pseudonym, which needs no key.
    """
    if key_name is None and is_pseudonym(user_id):
        return user_id
    key = user_key(run, key_name)
    return user_id if key is None else pseudonym(user_id, key.secret)


def _secret(name: str) -> bytes:
    value = os.environ.get(name)
    if value is None:
        path = shipped(Path(name))
        try:
            value = path.read_text(encoding="utf-8") if path.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the file that --user_key names cannot be read as UTF-8: {type(error).__name__}"
            ) from error
    if value is None:
        # Not quoted: it may be the secret itself.
        raise UsageError(
            f"--user_key must be the name of an environment variable or of a file that holds the key; the {len(name)} "
            "characters given name neither. Never write the key itself on a command line: process lists show it"
        )
    secret = value.strip()
    if len(secret.encode()) < _LEAST_BYTES:
        raise UsageError(
            f"the key that --user_key names has {len(secret.encode())} bytes, fewer than {_LEAST_BYTES}: ids could be "
            "recovered by trying keys. Make one with: openssl rand -hex 32"
        )
    remember_secrets({"secret": secret})
    return secret.encode()
