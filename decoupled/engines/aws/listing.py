"""The items of collections that are listed, on DynamoDB: which items are in their index, and a page of it. An item is
in there by an attribute that names its collection, so that others cost nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from decoupled.core import limits
from decoupled.core.outcomes import Page
from decoupled.core.workload import Item, collection_of
from decoupled.engines.aws.attributes import Attributes, decode_item

INDEX = "listed"
_OURS = (limits.KEY_ATTRIBUTE, limits.COLLECTION_ATTRIBUTE, limits.OWNER_ATTRIBUTE)


def names(key: str, listed: Collection[str]) -> Item:
    """What an item of this key gets beside its own attributes."""
    collection = collection_of(key)
    return {limits.COLLECTION_ATTRIBUTE: collection} if collection in listed else {}


def item(stored: Attributes) -> dict[str, Any]:
    """What a workload wrote, without what is ours."""
    return decode_item({name: attribute for name, attribute in stored.items() if name not in _OURS})


def query(prefix: str, after: str, limit: int) -> dict[str, Any]:
    """The parameters of a Query, beside the table's name."""
    collection = {"S": collection_of(prefix)}
    start = {"ExclusiveStartKey": {"pk": {"S": after}, limits.COLLECTION_ATTRIBUTE: collection}} if after else {}
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": "#collection = :collection AND begins_with(pk, :prefix)",
        "ExpressionAttributeNames": {"#collection": limits.COLLECTION_ATTRIBUTE},
        "ExpressionAttributeValues": {":collection": collection, ":prefix": {"S": prefix}},
        "Limit": limit,
        **start,
    }


def page(answer: dict[str, Any]) -> Page:
    """What a Query found."""
    return Page([(found["pk"]["S"], item(found)) for found in answer["Items"]], more="LastEvaluatedKey" in answer)
