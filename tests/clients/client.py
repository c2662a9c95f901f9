"""A client in Python uses the models that datamodel-code-generator generates."""

import json
import sys

from pydantic import ValidationError

import drover

with open("openapi.json", encoding="utf-8") as description:
    MESSAGE = json.load(description)["components"]["schemas"]["Message"]["examples"][0]
LEASE = "21759559372713-mY9hV1Qb0mX3cG7n2sKk5A"


def to_json(model):
    """The JSON of a model without the fields that are None."""
    return json.loads(model.model_dump_json(exclude_none=True))


def is_refused(make):
    try:
        make()
    except ValidationError:
        return True
    return False


assert to_json(drover.NewMessage(data={"hello": 1})) == {"data": {"hello": 1}}, "optional fields are left out"
drover.NewMessage(data=1, name=None, delay=None, priority=None)
full = drover.NewMessage(data=1, id="order-42", delay="1h 30m", ttl=1000, hold="paid:42", backoff={"type": "fixed"})
assert to_json(full)["delay"] == "1h 30m" and to_json(full)["backoff"] == {"type": "fixed"}
assert to_json(drover.SettingsPatch(max_attempts=5)) == {"max_attempts": 5}
assert to_json(drover.Receive()) == {} and to_json(drover.Signal(data=1)) == {"data": 1}
assert to_json(drover.Fail(lease=LEASE, error="boom")) == {"lease": LEASE, "error": "boom"}
assert to_json(drover.Fail(lease=LEASE, error={"message": "boom"})) == {"lease": LEASE, "error": {"message": "boom"}}
settle = drover.Settle(settlements=[{"lease": LEASE, "action": "complete", "result": 1}])
assert to_json(settle)["settlements"][0]["action"] == "complete"

for wrong in [{}, {"data": 1, "dealy": 1}, {"data": 1, "delay": "5 parsecs"}, {"data": 1, "id": "42"}]:
    assert is_refused(lambda: drover.NewMessage(**wrong)), wrong

assert drover.PostedMessage(**MESSAGE).attempts_made == 1
duplicate = drover.DuplicateMessage.model_validate({**MESSAGE, "duplicate": True}).root
assert duplicate.data == {"hello": 1} and duplicate.duplicate
forgotten = drover.DuplicateMessage.model_validate({"id": "a", "queue": "q", "state": None, "duplicate": True}).root
assert forgotten.id == "a" and forgotten.state is None
assert is_refused(lambda: drover.DuplicateMessage.model_validate(MESSAGE)), "a duplicate needs the field duplicate"
received = {"consumer": "c", "messages": [{**MESSAGE, "lease": LEASE, "lease_expires_at": MESSAGE["due_at"], "timeout": None}]}
assert drover.Received(**received).messages[0].data == {"hello": 1}
print("the generated Python models work", file=sys.stderr)
