"""What a schema can't say, for schemathesis: it loads this through schemathesis.toml."""

import uuid

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)
def lines(ctx, value):
    """A body of lines goes as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def filter_case(ctx, case):
    """Whatever is sent there is lines, and a text has no wrong type: what is no message is refused by its number."""
    return case.media_type != NDJSON or isinstance(case.body, str)


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Makes of a well-formed request one that is meant."""
    if not is_positive(case):
        return
    headers = case.headers or {}
    key = next((name for name in headers if name.lower() == "idempotency-key"), None)
    if key is not None:
        if case.media_type == NDJSON:
            # One key can't stand for a stream; the description says so in words.
            del headers[key]
        else:
            # A generator draws the same key for other requests, and to refuse that is what the key is for.
            headers[key] = str(uuid.uuid4())
    if isinstance(case.body, dict):
        messages = case.body.get("messages")
        for message in [case.body, *(messages if isinstance(messages, list) else [])]:
            # An id that was answered goes into the next path with its percent signs as they are, and there they must be
            # escaped (%25): it would be another id.
            if isinstance(message, dict) and isinstance(message.get("id"), str):
                message["id"] = message["id"].replace("%", "_")
    operation = case.operation.definition.raw.get("operationId")
    if operation == "list_messages" and "hold" in (case.query or {}):
        # Only held messages wait for a key; the description says so in words.
        case.query["state"] = "held"
    if operation == "delete_queue":
        # Random names never confirm a deletion, and then nothing would be deleted.
        case.query["confirm"] = case.path_parameters["queue"]
