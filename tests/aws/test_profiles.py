"""Whose credentials and which Region the commands take: of the environment, of profiles, of roles, of a process, of
single sign-on. With files as `aws configure` writes them, against servers that answer as STS and the SSO portal do."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.server import ROOT

ASK = "from decoupled.engines.aws.stack import account_and_region; print(*account_and_region())"
URL = "https://example.awsapps.com/start"
CONFIG = f"""
[profile plain]
region = eu-north-1
aws_access_key_id = AKIAPLAIN
aws_secret_access_key = secret

[profile role]
role_arn = arn:aws:iam::222222222222:role/deployer
source_profile = plain
region = eu-west-3

[profile role-without-region]
role_arn = arn:aws:iam::222222222222:role/deployer
source_profile = keys

[profile keys]
aws_access_key_id = AKIAPLAIN
aws_secret_access_key = secret

[profile process]
credential_process = cat {{directory}}/process.json
region = ap-south-1

[profile sso]
sso_session = work
sso_account_id = 333333333333
sso_role_name = Deployer
region = eu-central-1

[sso-session work]
sso_start_url = {URL}
sso_region = eu-central-1
"""


@dataclass
class Answers:
    """A server that answers as AWS does, and knows who asked by their access keys."""

    url: str
    asked: list[str] = field(default_factory=list)


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        signed = self.headers.get("authorization", "")
        key = signed.partition("Credential=")[2].partition("/")[0]
        if "AssumeRole" in body:
            self.told(f"AssumeRole as {key}")
            ends = f"{in_an_hour():%Y-%m-%dT%H:%M:%SZ}"
            tag = "<{0}>{1}</{0}>".format
            names = ("AccessKeyId", "ASIAROLE"), ("SecretAccessKey", "s"), ("SessionToken", "t"), ("Expiration", ends)
            credentials = tag("Credentials", "".join(tag(*pair) for pair in names))
            self.answer(f"<AssumeRoleResponse>{tag('AssumeRoleResult', credentials)}</AssumeRoleResponse>")
        else:
            region = signed.partition("Credential=")[2].split("/")[2]
            self.told(f"GetCallerIdentity as {key} in {region}")
            result = "<GetCallerIdentityResult><Account>111111111111</Account></GetCallerIdentityResult>"
            self.answer(f"<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>")

    def do_GET(self) -> None:
        self.told(f"GetRoleCredentials with {self.headers['x-amz-sso_bearer_token']}")
        ends = int(in_an_hour().timestamp() * 1000)
        keys = {"accessKeyId": "ASIASSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": ends}
        self.answer(json.dumps({"roleCredentials": keys}))

    def told(self, line: str) -> None:
        self.server.asked.append(line)  # type: ignore[attr-defined]

    def answer(self, body: str) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[Answers]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Answers(f"http://127.0.0.1:{server.server_port}")
    server.asked = made.asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config").write_text(CONFIG.replace("{directory}", str(tmp_path)))
    process = {"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}
    (tmp_path / "process.json").write_text(json.dumps(process))
    return tmp_path


def signed_in(home: Path, until: datetime) -> None:
    """As `aws sso login` leaves it."""
    cache = home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {
        "startUrl": URL,
        "region": "eu-central-1",
        "accessToken": "a-token",
        "expiresAt": f"{until:%Y-%m-%dT%H:%M:%SZ}",
    }
    (cache / f"{hashlib.sha1(b'work').hexdigest()}.json").write_text(json.dumps(token))  # noqa: S324  botocore's name


def run(home: Path, answers: Answers, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "AWS_CONFIG_FILE": str(home / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": answers.url,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def asked(home: Path, answers: Answers, **environment: str) -> str:
    """Whose account it is, and in which Region; or the last line of what went wrong."""
    done = run(home, answers, "-c", ASK, **environment)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_profile_names_keys_and_the_region(home: Path, answers: Answers) -> None:
    assert asked(home, answers, AWS_PROFILE="plain") == "111111111111 eu-north-1"
    assert answers.asked == ["GetCallerIdentity as AKIAPLAIN in eu-north-1"]


def test_the_region_is_aws_region_s_else_aws_default_region_s_else_the_profile_s(home: Path, answers: Answers) -> None:
    both = {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-east-2"}
    assert asked(home, answers, AWS_PROFILE="plain", **both) == "111111111111 us-west-2"
    assert asked(home, answers, AWS_PROFILE="plain", AWS_DEFAULT_REGION="us-east-2") == "111111111111 us-east-2"
    assert "region" in asked(home, answers, AWS_PROFILE="keys")


def test_a_profile_s_role_is_taken_on(home: Path, answers: Answers) -> None:
    assert asked(home, answers, AWS_PROFILE="role") == "111111111111 eu-west-3"
    assert answers.asked == ["AssumeRole as AKIAPLAIN", "GetCallerIdentity as ASIAROLE in eu-west-3"]


def test_a_profile_s_role_is_taken_on_with_aws_region_alone(home: Path, answers: Answers) -> None:
    assert asked(home, answers, AWS_PROFILE="role-without-region", AWS_REGION="eu-west-3") == "111111111111 eu-west-3"
    assert answers.asked == ["AssumeRole as AKIAPLAIN", "GetCallerIdentity as ASIAROLE in eu-west-3"]


def test_a_process_may_give_the_keys(home: Path, answers: Answers) -> None:
    assert asked(home, answers, AWS_PROFILE="process") == "111111111111 ap-south-1"
    assert answers.asked == ["GetCallerIdentity as AKIAPROCESS in ap-south-1"]


def test_single_sign_on_gives_the_keys(home: Path, answers: Answers) -> None:
    signed_in(home, in_an_hour())
    assert asked(home, answers, AWS_PROFILE="sso") == "111111111111 eu-central-1"
    assert answers.asked == ["GetRoleCredentials with a-token", "GetCallerIdentity as ASIASSO in eu-central-1"]


@pytest.mark.parametrize("hours", [None, -1])
def test_who_is_not_signed_in_any_more_is_told_how(home: Path, answers: Answers, hours: int | None) -> None:
    if hours is not None:
        signed_in(home, datetime.now(UTC) + timedelta(hours=hours))
    done = run(home, answers, "-m", "decoupled.cli.main", "deploy", "shop", AWS_PROFILE="sso")
    told = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert told.startswith("Error: AWS refuses: ")
    assert told.endswith("; type: aws sso login")
    assert answers.asked == []


def test_a_profile_that_is_not_there_is_told(home: Path, answers: Answers) -> None:
    assert "The config profile (nobody) could not be found" in asked(home, answers, AWS_PROFILE="nobody")
