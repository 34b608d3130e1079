"""Parameters that are refused before anything is built."""

from __future__ import annotations

import pytest

from decoupled.cli.parameters import check_callers, tags_of, typed

TEMPLATE = """
Parameters:
  Workloads:
    Type: String
  JwtIssuer:
    Type: String
Resources:
  Queue:
    Type: AWS::SQS::Queue
"""
JWT = {"Authorization": "JWT", "JwtIssuer": "https://issuer.example", "JwtAudience": "shop"}


def test_what_the_template_does_not_know_is_refused_with_what_is_near() -> None:
    assert typed(TEMPLATE, ["Workloads=a=b"]) == ({"Workloads", "JwtIssuer"}, {"Workloads": "a=b"})
    with pytest.raises(ValueError, match=r"is it Workloads=\.\.\.\?"):
        typed(TEMPLATE, ["Workload=orders"])
    with pytest.raises(ValueError, match="is not Parameter=Value"):
        typed(TEMPLATE, ["Queue=orders"])


@pytest.mark.parametrize(
    ("missing", "value"),
    [
        ("JwtAudience", ""),
        ("JwtAudience", " "),
        ("JwtAudience", "shop,"),
        ("JwtIssuer", ""),
        ("JwtIssuer", "issuer.example"),
    ],
)
def test_tokens_of_just_anybody_are_refused_typed_or_deployed(missing: str, value: str) -> None:
    check_callers(JWT, {})
    check_callers({}, JWT)
    for given, deployed in (({**JWT, missing: value}, {}), ({missing: value}, JWT), ({}, {**JWT, missing: value})):
        with pytest.raises(ValueError, match=f"needs {missing}="):
            check_callers(given, deployed)
    del (incomplete := {**JWT})[missing]
    with pytest.raises(ValueError, match=f"needs {missing}="):
        check_callers(incomplete, {})


def test_without_tokens_neither_is_needed() -> None:
    check_callers({}, {})
    check_callers({"Authorization": "AWS_IAM"}, {**JWT, "JwtAudience": ""})


def test_tags_are_keys_and_values() -> None:
    assert tags_of(["team=shop", "note=a=b", "cost-center="]) == {"team": "shop", "note": "a=b", "cost-center": ""}


@pytest.mark.parametrize("pair", ["team", "=shop", "aws:team=shop", f"{'k' * 129}=v", f"k={'v' * 257}"])
def test_a_tag_that_aws_would_refuse_is_refused_at_once(pair: str) -> None:
    with pytest.raises(ValueError, match="--tag"):
        tags_of([pair])
