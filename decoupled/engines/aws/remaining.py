"""What has it still, after something was erased from a stack's table: queues, backups, logs, and until when. AWS is
asked; where it does not say, that is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from decoupled.core.times import rfc3339
from decoupled.engines.aws.client import AwsError, detail
from decoupled.engines.aws.paced import PacedTable
from decoupled.engines.aws.stack import queue_urls

_DAY_MS = 86_400_000
_RECOVERY_DAYS = 35  # AWS: unless the table says otherwise
_WAITING = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
_RETENTION = "MessageRetentionPeriod"


class Remaining:
    """Of one stack. `told`: its parameters."""

    def __init__(
        self,
        clients: Callable[[str], Any],
        found: Mapping[str, str],
        told: Mapping[str, str],
        table: PacedTable,
        clock_ms: Callable[[], int],
    ) -> None:
        self._dynamodb, self._sqs = clients("dynamodb"), clients("sqs")
        self._found = found
        self._told = told
        self._table = table
        self._clock_ms = clock_ms

    def notes(self) -> Iterator[str]:
        """Each a sentence or two."""
        for what, say in (
            ("what waits on SQS", self._queues),
            ("point-in-time recovery", self._recovery),
            ("backups of the table", self._backups),
            ("streams of the table", self._streams),
        ):
            try:
                yield from say()
            except AwsError as error:
                yield f"Of {what} nothing is known: {detail(error)}"
        yield from self._logs()
        yield (
            "Any other copy has it until you remove it: exports of the table or of dead letters, copies of backups in"
            " another Region or account, and what webhooks and mails have told others."
        )

    def _queues(self) -> Iterator[str]:
        waiting, kept_s = 0, 0
        for url in queue_urls(self._found):
            has = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*_WAITING, _RETENTION])["Attributes"]
            waiting += sum(int(has.get(name, 0)) for name in _WAITING)
            kept_s = max(kept_s, int(has.get(_RETENTION, 0)))
        if waiting:
            yield (
                f"{waiting:,} messages wait on SQS, or are being processed. Whose they are, SQS does not tell: what of"
                " them is not given up has a record when it has ended, so ask again then. SQS keeps a message until"
                f" it is processed, {kept_s // 86_400} days at most (until {self._in_days(kept_s / 86_400)})."
            )

    def _recovery(self) -> Iterator[str]:
        answer = self._dynamodb.describe_continuous_backups(TableName=self._table.name)
        recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        if recovery.get("PointInTimeRecoveryStatus") == "ENABLED":
            days = int(recovery.get("RecoveryPeriodInDays", _RECOVERY_DAYS))
            yield (
                f"Point-in-time recovery has it for {days} days, until {self._in_days(days)}: whoever restores the"
                " table as it was before has to forget it there again."
            )

    def _backups(self) -> Iterator[str]:
        times, more = [], dict[str, str]()
        while True:
            page = self._dynamodb.list_backups(TableName=self._table.name, BackupType="ALL", **more)
            times += [each["BackupCreationDateTime"] for each in page.get("BackupSummaries", [])]
            if "LastEvaluatedBackupArn" not in page:
                break
            more = {"ExclusiveStartBackupArn": page["LastEvaluatedBackupArn"]}
        if times:
            first, last = (rfc3339(int(at.timestamp() * 1000)) for at in (min(times), max(times)))
            yield (
                f"{len(times):,} backups of the table, of {first} to {last}, have it until they expire or are deleted"
                " (aws dynamodb list-backups)."
            )

    def _streams(self) -> Iterator[str]:
        if self._table.described().get("StreamSpecification", {}).get("StreamEnabled"):
            yield f"The table's stream has what it was for 24 hours, until {self._in_days(1)}, and whoever reads it."

    def _logs(self) -> Iterator[str]:
        days = self._told.get("LogRetentionDays", "")
        if days.isdigit():
            yield (
                f"CloudWatch has what functions and the API have logged, ids and texts of errors, for {days} days,"
                f" until {self._in_days(int(days))}; its metrics have only numbers."
            )
        if self._told.get("XRay") == "on":
            yield f"X-Ray has traces, without bodies, for 30 days, until {self._in_days(30)}."
        if endpoint := self._told.get("TracesEndpoint"):
            yield f"Traces, without bodies, went to {endpoint}, which keeps them as long as it does."

    def _in_days(self, days: float) -> str:
        return rfc3339(self._clock_ms() + int(days * _DAY_MS))[:10]
