"""The floors of the package: which package may import which."""

from pathlib import Path

from tests.conftest import ROOT

JOBS = sorted((ROOT / "jobs").glob("*.py"))


PACKAGE = sorted((ROOT / "recsys_spark").rglob("*.py"))


# The floors of the house, bottom up: which packages a package may import. GROUND is open to every package above it.
GROUND = "errors tables lake runtime publish"


ALLOWED = {
    "errors": "",
    "arrays": "errors",
    "tables": "",
    "lake": "errors arrays tables",
    "runtime": "errors tables lake",
    "start": "errors runtime",
    "publish": "errors tables lake runtime",
    "privacy": f"{GROUND} arrays",
    "sources": GROUND,
    "ingest": f"{GROUND} privacy sources",
    "encode": f"{GROUND} arrays",
    "events": GROUND,
    "blocks": f"{GROUND} arrays",
    "items": f"{GROUND} arrays encode events",
    "profiles": f"{GROUND} arrays encode events blocks items",
    "segments": f"{GROUND} arrays events blocks",
    "topk": f"{GROUND} arrays blocks profiles",
    "rules": f"{GROUND} arrays sources topk",
    "training": "errors",
    "sequence": f"{GROUND} arrays blocks items training",
    "hybrid": f"{GROUND} arrays blocks events items topk",
    "risk": f"{GROUND} arrays ingest events hybrid",
    "explain": f"{GROUND} arrays privacy blocks events items profiles hybrid",
    "fairness": f"{GROUND} arrays events",
    "ranking": f"{GROUND} arrays blocks events profiles topk hybrid explain",
    "recommend": f"{GROUND} arrays blocks events items profiles topk rules hybrid explain fairness ranking sequence",
    "stream": f"{GROUND} arrays privacy sources ingest encode blocks events items profiles topk hybrid recommend",
    "evaluate": f"{GROUND} arrays ingest encode blocks events items hybrid training sequence",
    "online": f"{GROUND} arrays privacy sources ingest events evaluate",
    "tune": f"{GROUND} arrays privacy sources ingest encode events items hybrid training sequence evaluate",
    "report": f"{GROUND} arrays privacy events items fairness evaluate",
    "export": f"{GROUND} arrays stream",
    "serve": f"{GROUND} export",
    "catalog": GROUND,
    "refresh": f"{GROUND} ingest encode events blocks items profiles rules risk hybrid recommend stream evaluate",
    "demo": f"{GROUND} events evaluate report refresh stream",
}


def package_of(module: str | Path) -> str:
    """The package below recsys_spark of a path or of a dotted module name."""
    parts = module.relative_to(ROOT).parts if isinstance(module, Path) else module.split(".")
    return parts[1].removesuffix(".py") if len(parts) > 1 else ""
