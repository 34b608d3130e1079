"""scripts/test-workloads.sh passes on both engines, with all workloads, real webhooks and real e-mail."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from tests.support import ministack
from tests.support.clients import NAMES
from tests.support.receivers import http_receiver, mail_receiver
from tests.support.server import DECOUPLED, ROOT, serving
from tests.support.signing import KEY, TOKEN, fronting, signed
from tests.support.signing import SECRET as AWS_SECRET

SCRIPT = ROOT / "scripts" / "test-workloads.sh"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": AWS_SECRET, "AWS_SESSION_TOKEN": TOKEN}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [SCRIPT, *arguments], env={**clean, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_sample_checks_out_on_the_deployed_template(ministack_url: str) -> None:
    with http_receiver() as sink, mail_receiver() as mails:
        for name, value in (("WebhookSecret", SECRET), ("SmtpUrl", f"smtp://127.0.0.1:{mails.port}")):
            subprocess.run(
                [DECOUPLED, "secrets", "set", "workloads", name],
                env=ministack.environment(ministack_url),
                input=value,
                text=True,
                timeout=60,
                check=True,
            )
        deployed = subprocess.run(
            [
                ROOT / "scripts" / "deploy.sh",
                "workloads",
                "Authorization=NONE",
                f"Workloads={','.join(NAMES)}",
                "WebhookTrustedHosts=127.0.0.1",
                "MailFrom=shop@example.com",
            ],
            env=ministack.environment(ministack_url),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        (endpoint,) = re.findall(r"^Endpoint\s+(\S+)", deployed.stdout, re.MULTILINE)
        result = run(endpoint, WEBHOOK_SINK=f"http://127.0.0.1:{sink.port}/", MAIL_TO="ops@example.com", WAIT_S="120")
        assert result.returncode == 0, result.stdout + result.stderr
        for _, headers, body in sink.requests:
            Verifier(SECRET).verify(body, headers)
        assert len({headers["webhook-id"] for _, headers, _ in sink.requests}) == 2


def test_every_sample_checks_out_on_one_machine_and_signed_as_aws_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_receiver() as sink, mail_receiver() as mails:
        monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
        monkeypatch.setenv("WEBHOOK_TRUSTED_HOSTS", "127.0.0.1")
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{mails.port}")
        monkeypatch.setenv("MAIL_FROM", "shop@example.com")
        with serving(tmp_path / "data", "--workloads", ",".join(NAMES)) as server:
            sink_url = f"http://127.0.0.1:{sink.port}/sink"
            with fronting(server.url, admits=signed) as front:
                to = {"WEBHOOK_SINK": sink_url, "MAIL_TO": "ops@example.com"}
                result = run(front, SIGN="aws", AWS_REGION="eu-west-1", **CREDENTIALS, **to)
            assert result.returncode == 0, result.stdout + result.stderr
            assert "signed with SigV4 for eu-west-1" in result.stdout
        webhook_ids = {headers["webhook-id"] for _, headers, _ in sink.requests}
        assert len(webhook_ids) == 2, "one alone, one of two recipients"
        for _, headers, body in sink.requests:
            Verifier(SECRET).verify(body, headers)
        recipients = [each for addresses, _ in mails.mails for each in addresses]
        assert "ops@example.com" in recipients
        assert sum(address.startswith("ana.") for address in recipients) == 2  # two accounts, two welcomes
