"""Paths in the forms that Spark, pyarrow and deltalake take; paths with secrets are refused."""

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.lake.paths import absolute, delta_uri, is_pattern, lake_path, spark_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d/my lake/", "/d/my lake"),
        ("/d/my%20lake", "/d/my%20lake"),
        ("lake", "/here/lake"),
        ("~x y/lake", "/here/~x y/lake"),
        ("~/lake", "/home/me/lake"),
        ("a:b/lake", "/here/a:b/lake"),
        ("file:///d/my%20lake", "/d/my lake"),
        ("file:/d/lake", "/d/lake"),
        ("file://localhost/d/lake%5B1%5D/", "/d/lake[1]"),
        ("s3://bucket/lake/", "s3://bucket/lake"),
        ("abfss://container@account.dfs.core.windows.net/lake", "abfss://container@account.dfs.core.windows.net/lake"),
    ],
)
def test_a_path_has_one_form_for_all_processes(path, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute(path) == expected.replace("/here", str(tmp_path))


def test_characters_of_glob_patterns_are_escaped_in_file_names():
    assert spark_path("/d/lake[1]/{a,b}*?\\x") == "/d/lake\\[1\\]/\\{a,b\\}\\*\\?\\\\x"
    assert spark_path("/d/my lake%20/#1") == "/d/my lake%20/#1"
    assert is_pattern("/d/*.csv")
    assert not is_pattern(spark_path("/d/lake[1]/{a,b}*?"))
    assert delta_uri("/d/my lake[1]%20") == "file:///d/my%20lake%5B1%5D%2520"
    assert delta_uri("s3://bucket/lake") == "s3://bucket/lake"


@pytest.mark.parametrize(
    ("path", "character"),
    [
        ("/d/la\\ke", "\\"),
        ("/d/la\nke", "\n"),
        ("/d/10:30/lake[1]", "["),
        ("/d/lake%201", "%"),
        ("s3://b/my lake", " "),
        ("s3://b/lake%201", "%"),
        ("s3://b/l?a=b", "?"),
    ],
)
def test_a_lake_with_a_character_that_no_table_can_have_is_refused(path, character):
    with pytest.raises(UsageError) as caught:
        lake_path(path)
    assert f"cannot hold the character {character!r}" in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "s3://KEY:CANARYSECRET@bucket/lake",
        "ftp://me:CANARYSECRET@host/data",
        "https://a.blob.core.windows.net/c/lake?sv=2022&sig=CANARYSECRET",
        "https://b.s3.amazonaws.com/lake?X-Amz-Signature=CANARYSECRET&x=1",
    ],
)
def test_a_uri_that_holds_a_secret_is_refused_and_not_repeated(path):
    with pytest.raises(UsageError, match="holds a secret") as caught:
        absolute(path)
    assert "CANARYSECRET" not in str(caught.value)
