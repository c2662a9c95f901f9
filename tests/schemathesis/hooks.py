"""Rules that a schema cannot express. schemathesis loads this file through schemathesis.toml."""

import uuid

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)
def ndjson(ctx, value):
    """Sends an NDJSON body unchanged."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def filter_case(ctx, case):
    """Sends only text as NDJSON. The API accepts every text, and reports each line that is no message by its line number."""
    return case.media_type != NDJSON or isinstance(case.body, str)


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Changes a well-formed request so that the API accepts it."""
    if not is_positive(case):
        return
    headers = case.headers or {}
    key = next((name for name in headers if name.lower() == "idempotency-key"), None)
    if key is not None:
        if case.media_type == NDJSON:
            # The API refuses an idempotency key for NDJSON; the OpenAPI document states this rule only in prose.
            del headers[key]
        else:
            # schemathesis may reuse an idempotency key for another request, and the API must refuse a reused key.
            headers[key] = str(uuid.uuid4())
    if isinstance(case.body, dict):
        messages = case.body.get("messages")
        for message in [case.body, *(messages if isinstance(messages, list) else [])]:
            # schemathesis puts the id of a response into the next path without escaping percent signs, so the path would name
            # another message.
            if isinstance(message, dict) and isinstance(message.get("id"), str):
                message["id"] = message["id"].replace("%", "_")
    operation = case.operation.definition.raw.get("operationId")
    if operation == "put_schedule" and isinstance(case.body, dict):
        # The OpenAPI document says only in prose what a pattern and a zone are, and that a schedule has either a pattern or an interval.
        if case.body.get("cron") is not None:
            case.body["cron"] = "30 9 * * mon-fri"
            case.body["timezone"] = "Europe/Berlin"
            case.body.pop("every", None)
            case.body.pop("offset", None)
        else:
            case.body["every"] = "5m"
            case.body["offset"] = None
            case.body["timezone"] = None
        case.body["start_at"] = None
        case.body["end_at"] = None
    if operation == "list_messages" and "hold" in (case.query or {}):
        # The filter `hold` allows no other state than `held`, because only held messages have a hold key; the OpenAPI document
        # states this rule only in prose.
        case.query["state"] = "held"
    if operation == "delete_queue":
        # The query parameter `confirm` must repeat the name of the queue, which a random text does not.
        case.query["confirm"] = case.path_parameters["queue"]
