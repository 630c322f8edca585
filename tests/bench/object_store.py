"""An S3 store in a process of its own."""

import http.client
from collections.abc import Iterator

import pytest

moto_server = pytest.importorskip("moto.server", reason="moto is not installed")


KEYS = {"AWS_ACCESS_KEY_ID": "canary-key-7f3a", "AWS_SECRET_ACCESS_KEY": "canary-secret-91bc"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def environment(endpoint: str) -> dict[str, str]:
    return KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}


def bucket(endpoint: str, name: str) -> str:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    return f"s3://{name}/lake"
