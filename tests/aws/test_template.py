"""The template against its linters, against the code that it runs, and against the calls that the code makes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk import environment_variables

from decoupled.cli import build, bulkheads, secrets
from decoupled.core import headroom, limits, own_queues, stack_limits
from decoupled.core.backoff import spread_s
from decoupled.engines.aws import client as aws
from decoupled.engines.aws import listing, records, secret
from decoupled.engines.aws.kept import IDENTIFIERS, KEPT_ROLE, ROLE
from decoupled.engines.aws.signals import SIGNALS
from decoupled.pipeline.processor import TIME_RESERVED_S
from decoupled.server.http import cors
from tests.support import template

ROOT = template.PATH.parent.parent
FUNCTIONS = ("Receiver", "Processor", "Status")

# --- linters ------------------------------------------------------------------


def test_cfn_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", "--include-checks", "I", "--", template.PATH],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_is_plain_cloudformation_but_for_its_loops() -> None:
    assert template.source()["Transform"] == "AWS::LanguageExtensions"  # for its loops; there is no macro and no SAM
    events = yaml.parse(template.PATH.read_text())
    assert not [event for event in events if isinstance(event, yaml.AliasEvent)]  # CloudFormation takes no YAML aliases
    assert template.PATH.stat().st_size < 1_000_000  # what CloudFormation takes from a bucket: without one, 51,200


# --- template, settings and code agree ------------------------------------------


def visibility(queue: str, timeout: int, window: int) -> int:
    """A queue's visibility timeout with these parameters."""
    value = template.properties(queue)["VisibilityTimeout"]
    if "Fn::If" in value:
        condition, with_window, without = value["Fn::If"]
        assert condition == "WithBatchWindow"
        value = with_window if window else without
    return seconds_of(value, timeout)


def seconds_of(value: Any, timeout: int | None = None) -> int:
    """A property's value, in seconds mostly, with the parameters' defaults, or another ProcessorTimeout."""
    if isinstance(value, dict) and "Ref" in value:
        return int(template.defaults()[value["Ref"]])
    if isinstance(value, dict):
        mapping, _, key = value["Fn::FindInMap"]
        return int(template.load()["Mappings"][mapping][str(timeout)][key])
    return int(value)


def test_messages_stay_hidden_for_six_times_the_functions_timeout_and_the_window() -> None:
    assert template.properties("Mapping")["MaximumBatchingWindowInSeconds"] == {"Ref": "BatchWindowSeconds"}
    longest = template.load()["Parameters"]["BatchWindowSeconds"]["MaxValue"]
    parameter = template.load()["Parameters"]["ProcessorTimeout"]
    for timeout in parameter["AllowedValues"]:
        for window in (0, 1, longest):
            assert 6 * timeout + window <= visibility("Queue", timeout, window) <= limits.MAX_VISIBILITY_TIMEOUT_S
    assert visibility("Queue", 30, 0) == 180
    assert template.properties("Processor")["Timeout"] == {"Ref": "ProcessorTimeout"}
    assert set(template.load()["Mappings"]["VisibilityTimeout"]) == {str(t) for t in parameter["AllowedValues"]}


def test_what_may_surely_be_hidden_leaves_room_for_the_longest_that_a_batch_takes() -> None:
    longest = max(it["Seconds"] for it in template.load()["Mappings"]["VisibilityTimeout"].values())
    assert stack_limits.SURELY_HIDDEN_S + longest + 300 <= limits.MAX_VISIBILITY_TIMEOUT_S  # and the longest window


def test_dead_letters_are_kept_at_least_as_long_as_messages() -> None:
    """And what SQS moves there is not deleted before people have had time to see it: it keeps its age."""
    queue, dead = template.properties("Queue"), template.properties("DeadLetterQueue")
    alarm = template.properties("DeadLettersAgeAlarm")
    told_after_s = alarm["Period"] * alarm["EvaluationPeriods"]
    assert (queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]) == (10 * 86_400, 14 * 86_400)
    assert queue["MessageRetentionPeriod"] + told_after_s <= dead["MessageRetentionPeriod"] - 86_400
    assert told_after_s <= 7 * 86_400  # AWS: of an alarm, where a period is an hour or longer
    assert queue["MessageRetentionPeriod"] <= limits.MAX_UNRECORDED_S - limits.MAX_LATER_S


TIMEOUTS = template.load()["Parameters"]["ProcessorTimeout"]["AllowedValues"]


@pytest.mark.parametrize("window", [0, 60])
@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["Queue", "OwnQueueorders", "OrderedQueue"])
def test_the_redrive_policy_is_a_safety_net_that_loses_nothing_and_catches_late(
    name: str, timeout: int, window: int
) -> None:
    queue = template.properties(name)
    receives = seconds_of(queue["RedrivePolicy"]["maxReceiveCount"], timeout)
    hidden_s = visibility(name, timeout, window)
    assert receives <= limits.MAX_RECEIVE_COUNT == 1_000  # AWS's most
    # A processor that cannot start, or is throttled: each receive hides the message. It is dead before it is deleted, a
    # day in which nobody received it included; and not before it has waited for two days.
    assert 2 * 86_400 <= receives * hidden_s <= queue["MessageRetentionPeriod"] - 86_400
    # A backend that is away while the processor runs: at worst a receive each half of BACKOFF_CAP_S, on average three
    # quarters of it. Two days of that are borne, but by the longest timeouts, which bear one.
    outage_s = receives * 0.75 * limits.BACKOFF_CAP_S
    assert outage_s >= (86_400 if timeout >= 600 else 2 * 86_400)


def test_the_page_says_how_many_receives_and_days_these_are() -> None:
    table = (ROOT / "docs/aws.md").read_text().split("### Receives and days")[1]
    told: dict[str, tuple[int, int]] = {}
    for timeouts, hidden, unit, receives in re.findall(
        r"^\| ([\d, ]+) \| (\d+) (s|min) \| ([\d,]+) \|", table, re.MULTILINE
    ):
        seconds = int(hidden) * (60 if unit == "min" else 1)
        told |= dict.fromkeys(timeouts.split(", "), (seconds, int(receives.replace(",", ""))))
    mapping = template.load()["Mappings"]["VisibilityTimeout"]
    assert told == {timeout: (it["Seconds"], it["Receives"]) for timeout, it in mapping.items()}


@pytest.mark.parametrize("window", [0, 60])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_an_error_of_the_processor_is_remembered_until_its_messages_come_again(timeout: int, window: int) -> None:
    periods = template.properties("ProcessorErrorsAlarm")["EvaluationPeriods"]
    hidden_s = visibility("Queue", timeout, window)
    assert hidden_s + 2 * 60 <= seconds_of(periods, timeout) * 60 <= hidden_s + 5 * 60


def test_the_redrive_policy_moves_to_the_dead_letter_queue() -> None:
    target = template.properties("Queue")["RedrivePolicy"]["deadLetterTargetArn"]
    assert target == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


@pytest.mark.parametrize(
    ("function", "condition", "parameter"),
    [
        ("Processor", "WithReservedConcurrency", "ReservedProcessors"),
        ("Receiver", "WithReceiverReserved", "ReceiverReserved"),
    ],
)
def test_concurrency_is_reserved_where_that_is_asked_for(function: str, condition: str, parameter: str) -> None:
    reserved = template.properties(function)["ReservedConcurrentExecutions"]["Fn::If"]
    assert reserved == [condition, {"Ref": parameter}, {"Ref": "AWS::NoValue"}]


def test_to_reserve_nothing_for_the_processor_is_refused() -> None:
    """It would never run."""
    (assertion,) = template.load()["Rules"]["ReserveAsMuchAsMayRun"]["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReservedProcessors"}, "0"]}]}
    assert template.defaults()["ReservedProcessors"] == 0


def test_the_defaults_leave_more_than_half_of_a_new_account_s_ten_executions_to_the_front() -> None:
    values = {**bulkheads.defaults(template.PATH.read_text()), "OwnQueues": "orders"}
    assert headroom.processors(values) == 4
    assert list(headroom.exceeded(values, headroom.Account(executions=10, unreserved=10))) == []


def test_the_parameters_defaults_are_read_as_they_stand() -> None:
    read = bulkheads.defaults(template.PATH.read_text())
    assert {name: str(value) for name, value in template.defaults().items() if value is not None} == read


def test_pollers_are_provisioned_or_the_concurrency_is_bounded_never_both() -> None:
    pollers = {"MinimumPollers": {"Ref": "MinimumPollers"}, "MaximumPollers": {"Ref": "MaximumPollers"}}
    for mapping, condition in (("OwnMappingorders", "WithPollers"), ("Mapping", "WithSharedPollers")):
        properties = template.properties(mapping)
        assert properties["ScalingConfig"]["Fn::If"][:2] == [condition, {"Ref": "AWS::NoValue"}]
        assert properties["ProvisionedPollerConfig"]["Fn::If"] == [condition, pollers, {"Ref": "AWS::NoValue"}]
    assert "ProvisionedPollerConfig" not in template.properties("OrderedMapping")


OPTIONS = {  # what costs and is not always wanted, with what it is by default
    "XRay": "off",
    "DetailedMetrics": "off",
    "AccessLogs": "on",
    "MinimumPollers": 0,
    "TableWarmWrites": 0,
    "Metrics": "off",
    "CustomerKey": "no",
}


def test_each_option_that_costs_says_what_and_is_off_but_for_the_access_log() -> None:
    parameters = template.load()["Parameters"]
    assert {name: parameters[name]["Default"] for name in OPTIONS} == OPTIONS
    for name in OPTIONS:
        assert re.search(r"\$\d|Billed once", parameters[name]["Description"]), name


def test_without_an_access_log_there_is_no_log_group_of_it() -> None:
    condition, settings, otherwise = template.properties("Stage")["AccessLogSettings"]["Fn::If"]
    assert (condition, otherwise) == ("WithAccessLogs", {"Ref": "AWS::NoValue"})
    assert settings["DestinationArn"] == {"Fn::GetAtt": ["AccessLog", "Arn"]}
    assert template.load()["Resources"]["AccessLog"]["Condition"] == "WithAccessLogs"
    name = template.properties("AccessLog")["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/")  # else each stack takes of a policy's 5,120 bytes
    assert "${AWS::StackName}" in name


def test_a_table_that_is_to_be_warm_is_warm_with_the_index_that_is_written_with_it() -> None:
    table = template.properties("Table")
    dead, listed = table["GlobalSecondaryIndexes"]
    units = {"ReadUnitsPerSecond": {"Ref": "TableWarmReads"}, "WriteUnitsPerSecond": {"Ref": "TableWarmWrites"}}
    expected = {"Fn::If": ["WithWarmTable", units, {"Ref": "AWS::NoValue"}]}
    assert table["WarmThroughput"] == listed["WarmThroughput"] == expected
    assert "WarmThroughput" not in dead  # one partition, 1,000 writes a second, which no warmth changes


def test_the_mapping_hands_over_what_the_processor_answers_for() -> None:
    mapping = template.properties("Mapping")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] == {"Ref": "BatchSize"}
    assert template.load()["Parameters"]["BatchSize"]["MaxValue"] == limits.RECEIVE_MAX
    assert "FilterCriteria" not in mapping  # what does not match is deleted


def test_the_default_of_max_attempts_is_the_codes() -> None:
    assert template.defaults()["MaxAttempts"] == limits.MAX_ATTEMPTS
    assert template.defaults()["AttemptsSpanSeconds"] == limits.ATTEMPTS_SPAN_S


def test_the_longest_pause_between_two_attempts_is_within_what_sqs_can_hide() -> None:
    longest = template.load()["Parameters"]["AttemptsSpanSeconds"]["MaxValue"]
    attempts = template.load()["Parameters"]["MaxAttempts"]
    for most in range(attempts["MinValue"], attempts["MaxValue"] + 1):
        assert spread_s(most - 1, most, longest, 0.0) <= limits.MAX_VISIBILITY_TIMEOUT_S


# --- a queue for each workload -----------------------------------------------------


def test_an_own_queue_is_the_shared_one_again_with_its_policy_and_its_mapping() -> None:
    assert template.properties("OwnQueueorders") == template.properties("Queue")
    statements = [
        {**one, "Resource": {"Fn::GetAtt": ["OwnQueueorders", "Arn"]}}
        for one in template.properties("QueuePolicy")["PolicyDocument"]["Statement"]
    ]
    policy = template.properties("OwnQueueordersPolicy")
    assert policy["PolicyDocument"]["Statement"] == statements
    assert policy["Queues"] == [{"Fn::GetAtt": ["OwnQueueorders", "QueueUrl"]}]
    expected = {
        **template.properties("Mapping"),
        "EventSourceArn": {"Fn::GetAtt": ["OwnQueueorders", "Arn"]},
    }
    mapping = template.properties("OwnMappingorders")
    for of_pace in ("ScalingConfig", "ProvisionedPollerConfig"):
        del expected[of_pace]
        assert of_pace in mapping
    assert {name: it for name, it in mapping.items() if name in expected} == expected
    own = {name: it for name, it in template.load()["Resources"].items() if name.startswith("Own")}
    assert {it["Condition"] for it in own.values()} == {"WithOwnQueues"}
    alarms = ["OwnBacklogAlarmorders", "OwnInFlightAlarmorders"]
    assert sorted(own) == sorted(["OwnMappingorders", "OwnQueueorders", "OwnQueueordersPolicy", *alarms])


@pytest.mark.parametrize(
    ("alarm", "of_all"), [("OwnBacklogAlarmorders", "BacklogAlarm"), ("OwnInFlightAlarmorders", "InFlightAlarm")]
)
def test_an_own_queue_is_watched_as_the_shared_one_is(alarm: str, of_all: str) -> None:
    own = dict(template.properties(alarm))
    assert "orders" in own.pop("AlarmDescription")["Fn::Join"][1]
    queue_name = [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["OwnQueueorders", "QueueName"]}}]
    shared = {name: value for name, value in template.properties(of_all).items() if name != "AlarmDescription"}
    assert own == {**shared, "Dimensions": queue_name}


def test_a_stack_without_own_queues_has_its_pace_on_the_shared_one() -> None:
    assert template.defaults()["OwnQueues"] == own_queues.NONE
    (has_some,) = template.load()["Conditions"]["WithOwnQueues"]["Fn::Not"]
    assert has_some == {"Fn::Equals": [{"Fn::Select": [0, {"Ref": "OwnQueues"}]}, own_queues.NONE]}
    with_own = ["WithOwnQueues", {"Ref": "SharedConcurrency"}, {"Ref": "MaximumConcurrency"}]
    assert template.properties("Mapping")["ScalingConfig"]["Fn::If"][2] == {"MaximumConcurrency": {"Fn::If": with_own}}


def test_names_of_a_loop_stand_where_an_account_fills_them_in() -> None:
    def left(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [found for pair in node.items() for one in pair for found in left(one)]
        if isinstance(node, list):
            return [found for one in node for found in left(one)]
        return re.findall(r"[$&]\{Name\}", str(node))

    assert left(template.load()) == []
    text = template.PATH.read_text()
    filled_in = re.findall(r'!Sub "?([^"\]]*\$\{Name\}[^"\]]*)', text)
    assert filled_in
    assert all(re.fullmatch(r"\w+\$\{Name\}", each) for each in filled_in)  # and nothing else beside them


# --- with ordered workloads -------------------------------------------------------


def of_ordered_workloads() -> set[str]:
    return {n for n, it in template.load()["Resources"].items() if it.get("Condition") == "WithOrderedWorkloads"}


def test_what_is_for_ordered_workloads_is_made_for_them_only() -> None:
    assert template.defaults()["OrderedWorkloads"] == ""
    named = {name for name in template.load()["Resources"] if name.startswith("Ordered")}
    assert named == of_ordered_workloads()
    outputs = template.load()["Outputs"]
    conditional = {n for n, it in outputs.items() if it.get("Condition") == "WithOrderedWorkloads"}
    assert {n for n in outputs if n.startswith("Ordered")} == conditional


def test_the_fifo_queues_are_the_standard_ones_but_for_their_order() -> None:
    fifo = {"FifoQueue": True, "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    for standard, ordered in (("Queue", "OrderedQueue"), ("DeadLetterQueue", "OrderedDeadLetterQueue")):
        expected = {**template.properties(standard), **fifo}
        if ordered == "OrderedQueue":
            expected["VisibilityTimeout"] = expected["VisibilityTimeout"]["Fn::If"][2]  # that without a window
        if "RedrivePolicy" in expected:
            target = {"Fn::GetAtt": ["OrderedDeadLetterQueue", "Arn"]}
            expected["RedrivePolicy"] = {**expected["RedrivePolicy"], "deadLetterTargetArn": target}
        assert template.properties(ordered) == expected
    mapping, ordered_mapping = template.properties("Mapping"), template.properties("OrderedMapping")
    assert ordered_mapping["FunctionResponseTypes"] == mapping["FunctionResponseTypes"]
    assert ordered_mapping["BatchSize"] == {"Ref": "BatchSize"}  # AWS: at most ten from a FIFO queue, and no window
    assert "MaximumBatchingWindowInSeconds" not in ordered_mapping


def test_each_queue_has_a_policy_of_its_own_and_all_say_the_same() -> None:
    """AWS is reported to refuse a statement that names two queues."""
    standard = template.properties("QueuePolicy")["PolicyDocument"]["Statement"]
    assert len(list(resources("AWS::SQS::QueuePolicy"))) == len(list(resources("AWS::SQS::Queue")))
    for name, _ in resources("AWS::SQS::Queue"):
        properties = template.properties(f"{name}Policy")
        resource = {"Fn::GetAtt": [name, "Arn"]}
        assert properties["Queues"] in ([{"Ref": name}], [{"Fn::GetAtt": [name, "QueueUrl"]}])
        assert properties["PolicyDocument"]["Statement"] == [{**one, "Resource": resource} for one in standard]


def test_no_record_expires_while_sqs_can_still_hold_its_message() -> None:
    retention = template.properties("Queue")["MessageRetentionPeriod"]
    days = template.load()["Parameters"]["RecordTtlDays"]["AllowedValues"]
    assert all(day * 86_400 > 2 * retention for day in days if day)
    assert template.properties("Table")["TimeToLiveSpecification"]["AttributeName"] == "expires_at"


def test_timeouts_leave_room_for_the_slowest_calls() -> None:
    parameters = template.load()["Parameters"]
    assert min(parameters["ProcessorTimeout"]["AllowedValues"]) > 2 * TIME_RESERVED_S
    assert parameters["StatusTimeout"]["MinValue"] > aws.SLOWEST_CALL_S
    assert parameters["ReceiverTimeout"]["MinValue"] > 2 * aws.SLOWEST_CALL_S
    assert parameters["ReceiverTimeout"]["MaxValue"] < 30  # API Gateway's


def test_the_largest_batch_can_be_sent_within_the_receivers_time() -> None:
    calls_each_thread = limits.MAX_BATCH_ENTRIES / limits.RECEIVE_MAX / limits.AWS_CONCURRENCY
    assert calls_each_thread * 1.0 <= template.defaults()["ReceiverTimeout"]  # at a second a call, which is very slow


def test_the_indexes_are_the_codes() -> None:
    table = template.properties("Table")
    index, of_listed = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == records.DEAD_INDEX
    dead = records.dead(records.record(_dead_item()))
    keys = [key["AttributeName"] for key in index["KeySchema"]]
    assert keys == ["dead", "dead_at"]
    listed = {"pk", *keys, *index["Projection"]["NonKeyAttributes"]}
    assert dead.keys() - listed == {"body"}
    assert [key["AttributeName"] for key in table["KeySchema"]] == [limits.KEY_ATTRIBUTE]
    assert of_listed["IndexName"] == listing.INDEX
    assert [key["AttributeName"] for key in of_listed["KeySchema"]] == [
        limits.COLLECTION_ATTRIBUTE,
        limits.KEY_ATTRIBUTE,
    ]


def _dead_item() -> dict[str, Any]:
    text, time = {"S": "text"}, {"S": "2026-11-23T10:15:30.123Z"}
    times = dict.fromkeys(("accepted_at", "finished_at", "first_failed_at", "last_failed_at"), time)
    texts = dict.fromkeys(("pk", "workload", "caller", "error_type", "error", "body"), text)
    return {**times, **texts, "status": {"S": "dead"}, "attempts": {"N": "5"}}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_handler_exists(function: str) -> None:
    module, _, name = template.properties(function)["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_gets_the_environment_that_it_reads(function: str) -> None:
    properties = template.properties(function)
    given = set(properties["Environment"]["Variables"]) - {"RELEASE"}  # which is there to change with each release
    needed, optional = environment_read_by(properties["Handler"].split(".")[1])
    own = {name for name in given if function != "Status" and re.fullmatch("QUEUE[a-z0-9]+", name)}  # by queues_of
    assert needed
    assert needed <= given - own <= needed | optional


def environment_read_by(function: str) -> tuple[set[str], set[str]]:
    """The variables that a function cannot start without, and those that it can do without, beside AWS's own."""
    code = (ROOT / "functions" / f"{function}.py").read_text()
    for module in re.findall(r"from decoupled\.engines\.aws\.(\w+) import", code):
        code += (ROOT / "decoupled/engines/aws" / f"{module}.py").read_text()
    if "schedules import" in code:
        code += (ROOT / "decoupled/engines/aws/schedules.py").read_text()
    if "issued import" in code:
        code += (ROOT / "decoupled/pipeline/issued.py").read_text()
    optional = set(re.findall(r'environ\.get\("(\w+)"', code))
    # The processor alone processes, and what a workload lacks is the message's trouble; the receiver checks callbacks.
    read = {"processor": r"(?:environ\.get|setting)", "receiver": r"environ\.get"}.get(function)
    for room in ("workloads", "outbound") if read else ():
        for module in (ROOT / "decoupled" / room).glob("*.py"):
            optional |= set(re.findall(rf'{read}\("(\w+)"', module.read_text()))
    if "telemetry.start(" in code:
        room = "".join(path.read_text() for path in (ROOT / "decoupled" / "telemetry").glob("*.py"))
        optional |= set(re.findall(r'environ\.get\("(\w+)"', room)) | OPENTELEMETRY_READS
    return set(re.findall(r'environ\["(\w+)"\]', code)), optional


OPENTELEMETRY_READS = {
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}


def test_what_opentelemetry_is_to_read_it_reads() -> None:
    known = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert known >= OPENTELEMETRY_READS


def test_the_status_function_is_changed_before_the_receiver() -> None:
    """CloudFormation changes functions side by side, but for one that depends on another."""
    assert "StatusAlias" in template.load()["Resources"]["Receiver"]["DependsOn"]
    assert "StatusAlias" in template.load()["Resources"]["ReceiverAlias"]["DependsOn"]


# --- network and names ------------------------------------------------------------


def conditional(value: Any) -> tuple[str, Any]:
    """The condition of a property, and what it then is; else it is not there."""
    condition, given, otherwise = value["Fn::If"]
    assert otherwise == {"Ref": "AWS::NoValue"}
    return condition, given


def test_every_route_asks_for_the_scopes() -> None:
    for _, route in resources("AWS::ApiGatewayV2::Route"):
        assert conditional(route["Properties"]["AuthorizationScopes"]) == ("WithScopes", {"Ref": "JwtScopes"})


def test_every_role_is_within_the_boundary() -> None:
    roles = dict(resources("AWS::IAM::Role"))
    assert len(roles) == 4
    for role in roles.values():
        bounded = conditional(role["Properties"]["PermissionsBoundary"])
        assert bounded == ("WithBoundary", {"Ref": "PermissionsBoundary"})


def test_in_subnets_every_function_may_have_the_network_interfaces_that_lambda_makes() -> None:
    placed = {"SubnetIds": {"Ref": "SubnetIds"}, "SecurityGroupIds": {"Ref": "SecurityGroupIds"}}
    for function in FUNCTIONS:
        assert conditional(template.properties(function)["VpcConfig"]) == ("WithVpc", placed)
        statements = template.properties(f"{function}Role")["Policies"][0]["PolicyDocument"]["Statement"]
        (network,) = [it for it in statements if it.get("Fn::If", [""])[0] == "WithVpc"]
        assert conditional(network)[1]["Sid"] == "Network"


def test_a_name_of_one_s_own_leads_to_the_same_stage_and_can_be_the_only_one() -> None:
    mapping = template.properties("DomainMapping")
    assert mapping == {"ApiId": {"Ref": "HttpApi"}, "DomainName": {"Ref": "Domain"}, "Stage": {"Ref": "Stage"}}
    for name in ("Domain", "DomainMapping"):
        assert template.load()["Resources"][name]["Condition"] == "WithDomain"
    assert template.properties("HttpApi")["DisableExecuteApiEndpoint"] == {"Fn::If": ["OnlyDomain", True, False]}
    assert template.load()["Outputs"]["Endpoint"]["Value"]["Fn::If"][0] == "OnlyDomain"


# --- what is secret -----------------------------------------------------------------

SECRET = {"IdKeys", "WebhookSecret", "SmtpUrl", "TracesHeaders"}


def test_nothing_secret_is_a_parameter_or_in_an_environment() -> None:
    parameters = template.load()["Parameters"]
    assert not SECRET & set(parameters)
    assert not [name for name, it in parameters.items() if it.get("NoEcho")]
    for function in FUNCTIONS:
        variables = template.properties(function)["Environment"]["Variables"]
        assert variables["SECRET_ARN"] == {"Ref": "SecretArn"}
        assert not {"ID_KEYS", *secret.VARIABLES.values()} & set(variables)


def test_a_function_may_read_the_stack_s_secret_and_no_other() -> None:
    for function in FUNCTIONS:
        statements = template.properties(f"{function}Role")["Policies"][0]["PolicyDocument"]["Statement"]
        given = [it["Fn::If"][1] for it in statements if it.get("Fn::If", [""])[0] == "WithSecret"]
        reading, decrypting = given
        assert (reading["Action"], reading["Resource"]) == ("secretsmanager:GetSecretValue", {"Ref": "SecretArn"})
        assert decrypting["Action"] == "kms:Decrypt"
        assert decrypting["Condition"]["StringEquals"]["kms:EncryptionContext:SecretARN"] == {"Ref": "SecretArn"}
        assert "kms:ViaService" in decrypting["Condition"]["StringEquals"]


def test_the_secret_s_members_are_those_that_the_tool_knows() -> None:
    assert {secret.ID_KEYS, *secret.VARIABLES} == {*secrets.NAMES} == SECRET
    assert all(secret.PROCESSORS.fullmatch(name) for name in secret.VARIABLES)
    assert not secret.PROCESSORS.fullmatch(secret.ID_KEYS)


def test_build_and_template_name_the_same_python() -> None:
    assert {template.properties(function)["Runtime"] for function in FUNCTIONS} == {f"python{build.PYTHON_VERSION}"}
    assert all(template.properties(function)["Architectures"] == ["arm64"] for function in FUNCTIONS)
    assert "aarch64" in (ROOT / "decoupled/cli/build.py").read_text()


def test_the_parameters_description_is_whole() -> None:
    parameters = template.load()["Parameters"]
    grouped = [
        name
        for group in template.load()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(grouped) == sorted(parameters)
    assert all(parameter["Description"].endswith(".") for parameter in parameters.values())
    page = (ROOT / "docs/aws.md").read_text()
    assert [name for name in parameters if f"`{name}`" not in page] == []


# --- secure and observable by default --------------------------------------------


def resources(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template.load()["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource


def test_every_route_asks_who_calls() -> None:
    routes = dict(resources("AWS::ApiGatewayV2::Route"))
    assert sorted(route["Properties"]["RouteKey"] for route in routes.values()) == [
        "GET /{workload}/{collection}/{key}",
        "GET /{workload}/{id}",
        "POST /{workload}",
    ]
    assert all(route["Properties"]["AuthorizationType"] == {"Ref": "Authorization"} for route in routes.values())
    assert template.defaults()["Authorization"] == "AWS_IAM"


def test_what_holds_data_and_what_protects_and_feeds_it_outlives_the_stack_but_not_a_create_that_failed() -> None:
    kinds = {*IDENTIFIERS, "AWS::SQS::QueuePolicy"} - {ROLE}
    everything = template.load()["Resources"]
    kept = {name for name, resource in everything.items() if resource["Type"] in kinds} | {KEPT_ROLE}
    assert kept == {name for name, resource in everything.items() if "Retain" in resource.get("DeletionPolicy", "")}
    for name in kept:
        policies = (everything[name]["DeletionPolicy"], everything[name]["UpdateReplacePolicy"])
        assert (name, *policies) == (name, "RetainExceptOnCreate", "Retain")


def test_the_api_s_pace_is_within_every_region_s_quota() -> None:
    """API Gateway's quota is 2,500 requests a second and bursts of 1,250 in the smaller Regions."""
    assert template.defaults()["ThrottleRate"] <= 2_500
    assert template.defaults()["ThrottleBurst"] <= 1_250


def test_every_alarm_tells_someone_and_watches_a_metric_of_this_stack() -> None:
    alarms = dict(resources("AWS::CloudWatch::Alarm"))
    assert len(alarms) == 19
    assert {n for n, it in alarms.items() if "Condition" in it} == {
        n for n in alarms if n.startswith(("Ordered", "Own"))
    }
    for alarm in alarms.values():
        properties = alarm["Properties"]
        assert properties["AlarmActions"] == properties["OKActions"]
        assert properties["AlarmActions"] == [
            {"Fn::If": ["WithAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]}
        ]
        assert properties["TreatMissingData"] == "notBreaching"
        assert properties["DatapointsToAlarm"] <= seconds_of(properties["EvaluationPeriods"], 30)


def test_alarms_on_what_the_processor_tells_are_on_what_it_tells_always_and_outlast_the_longest_backoff() -> None:
    namespace = {"Fn::Sub": "Decoupled/${AWS::StackName}"}
    told = [
        it["Properties"] for _, it in resources("AWS::CloudWatch::Alarm") if it["Properties"]["Namespace"] == namespace
    ]
    assert {alarm["MetricName"] for alarm in told} == {"waiting_age_seconds", "unavailable_seconds", "failed"}
    for alarm in told:
        assert SIGNALS[alarm["MetricName"]]
        assert "Dimensions" not in alarm  # of all workloads
        assert alarm["DatapointsToAlarm"] == 1
        assert alarm["Period"] * alarm["EvaluationPeriods"] >= limits.BACKOFF_CAP_S + 240
    assert template.properties("Processor")["Environment"]["Variables"]["SIGNALS_NAMESPACE"] == namespace


def test_the_index_of_the_dead_is_watched_by_its_name() -> None:
    dimensions = template.properties("DeadIndexThrottlesAlarm")["Dimensions"]
    assert {it["Name"]: it["Value"] for it in dimensions} == {
        "TableName": {"Ref": "Table"},
        "GlobalSecondaryIndexName": records.DEAD_INDEX,
    }


def test_the_dashboard_is_json_and_names_only_what_is_there() -> None:
    body = template.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name in re.findall(r"\$\{([^}]+)\}", body):
        assert name.startswith("AWS::") or name.split(".")[0] in template.load()["Resources"]
    assert len(json.loads(body)["widgets"]) == 9


def test_the_dashboard_has_the_queues_of_workloads_own_too() -> None:
    """Which nothing can name there: it searches for the stack's name. orders waits in such a queue, and in no other."""
    widgets = json.loads(template.properties("Dashboard")["DashboardBody"]["Fn::Sub"])["widgets"]
    searched = [
        line[0]["expression"]
        for widget in widgets
        for line in widget["properties"]["metrics"]
        if isinstance(line[0], dict)
    ]
    metrics = (
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateAgeOfOldestMessage",
    )
    which = "${AWS::StackName} NOT DeadLetterQueue', 'Maximum', 60)"
    assert searched == [f'SEARCH(\'{{AWS/SQS,QueueName}} MetricName="{metric}" {which}' for metric in metrics]


def test_each_function_logs_to_its_own_group_and_traces() -> None:
    for function in FUNCTIONS:
        statements = {
            statement["Sid"]: statement
            for statement in template.properties(f"{function}Role")["Policies"][0]["PolicyDocument"]["Statement"]
            if "Sid" in statement
        }
        assert statements["Log"]["Resource"] == {"Fn::GetAtt": [f"{function}Log", "Arn"]}
        assert statements["Log"]["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
        assert template.properties(function)["LoggingConfig"]["LogGroup"] == {"Ref": f"{function}Log"}
        assert template.properties(function)["TracingConfig"] == {
            "Mode": {"Fn::If": ["WithXRay", "Active", "PassThrough"]}
        }


def test_a_function_loads_only_the_service_that_it_calls() -> None:
    for function, unwanted in (
        ("receiver", "decoupled.engines.aws.table"),
        ("status", "decoupled.engines.aws.messages"),
    ):
        environment = {
            "AWS_LAMBDA_FUNCTION_NAME": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "WORKLOADS": "orders",
            "QUEUE_URL": "http://q",
            "TABLE_NAME": "t",
        }
        code = f"import sys, functions.{function}; print({unwanted!r} in sys.modules, 'boto3' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["False", "False"]


# --- calls from browsers ------------------------------------------------------


def test_pages_may_send_and_read_what_they_may_on_one_machine() -> None:
    condition, given, _ = template.properties("HttpApi")["CorsConfiguration"]["Fn::If"]
    assert condition == "WithCors"
    signed = {"x-amz-date", "x-amz-security-token"}
    only_there = {"last-event-id", "x-api-key"}  # no event streams, no API keys
    assert set(given["AllowHeaders"]) - signed == set(cors.HEADERS.split(", ")) - only_there
    assert given["AllowMethods"] == cors.METHODS.split(", ")
    assert set(given["ExposeHeaders"]) <= set(cors.EXPOSED.split(", "))
    assert given["MaxAge"] == limits.CORS_MAX_AGE_S
