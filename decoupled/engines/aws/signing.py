"""Signatures for a deployed API that asks for IAM, for tools that call it over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session


class Signer:
    """Signs requests to API Gateway with the credentials of the environment. Raises ValueError if there are none."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._credentials = Session().get_credentials()  # refreshes itself where it can
        if self._credentials is None:
            raise ValueError("there are no AWS credentials to sign with: set AWS_PROFILE, or run aws configure")

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers to send, the signature among them."""
        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        SigV4Auth(self._credentials.get_frozen_credentials(), "execute-api", self._region).add_auth(request)
        return dict(request.headers.items())
