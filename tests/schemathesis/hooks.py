"""What a description cannot say, put into the requests that schemathesis makes up.

A well-formed request goes to a sale that is there most of the time, names items that the sale
has, each at most once, and keeps its texts within their bytes. It says whose account it is for, as
whoever has an API key must. Malformed parts of a request are left alone.

Beside that, the successes are counted, since a run that was refused throughout proves nothing.
"""

import atexit
import collections
import json
import os
from urllib.parse import quote, unquote

import schemathesis
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation

# Sales as `tests/schemathesis.sh` makes them: one that sells, and one for each refusal of a sale.
SALES = [7] * 12 + [8, 9, 10, 11]
ITEMS = 16
TEXT_BYTES_MAX = 64

turn = 0
seen = collections.Counter()


def is_well_formed(case, location):
    """Whether this part of the request is as the document says."""
    component = case.meta.components.get(location) if case.meta else None
    return component is None or component.mode.is_positive


def shorten(text):
    """The start of a text that fits its bytes: the document counts characters."""
    return text.encode()[:TEXT_BYTES_MAX].decode(errors="ignore")


def shorten_segment(segment):
    """The same for a part of a path, which is percent-encoded already."""
    return quote(shorten(unquote(segment)), safe="")


def integers(value):
    """Whole numbers without a point: to the document 1.0 is an integer, to the server it is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: integers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [integers(part) for part in value]
    return value


def settle_body(body):
    for name in ("account", "payment_ref"):
        if name in body:
            body[name] = shorten(body[name])
    body.setdefault("account", "ann")
    for index, line in enumerate(body.get("lines", [])):
        line["item"] = index + 1
        # Some ask for more than there is.
        if turn % 5:
            line["quantity"] = line["quantity"] % 3 + 1
        if turn % 7 and "price" in line:
            line["price"] = 4500


@schemathesis.hook
def before_call(context, case, kwargs):
    global turn
    turn += 1
    is_linked = case.meta is not None and case.meta.phase.name.value == "stateful"
    path = case.path_parameters
    if path and is_well_formed(case, ParameterLocation.PATH):
        if not is_linked and turn % 8:
            path["sale"] = SALES[turn % len(SALES)]
        if not is_linked and turn % 4 and "order" in path:
            path["order"] = turn % 40 + 1
        if "request_id" in path:
            path["request_id"] = shorten_segment(path["request_id"])
    if "request_id" in (path or {}) and is_well_formed(case, ParameterLocation.QUERY):
        query = dict(case.query or {})
        query["account"] = shorten(query.get("account", "ann"))
        case.query = query
    if case.method == "POST" and is_well_formed(case, ParameterLocation.BODY):
        if isinstance(case.body, NotSet):
            case.body, case.media_type = {}, "application/json"
        case.body = integers(case.body)
        settle_body(case.body)


    key = case.headers.get("Idempotency-Key") if case.headers else None
    if key and turn % 3 and is_well_formed(case, ParameterLocation.HEADER):
        # An intent of its own; the others repeat an earlier one, or contradict it.
        case.headers["Idempotency-Key"] = f"{turn} {key}"[:TEXT_BYTES_MAX].rstrip()


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Lets a well-formed request be refused that names lines which the order does not have."""
    if response.status_code != 400 or failure.__class__.__name__ != "RejectedPositiveData":
        return True
    problem = response.json()
    operation = case.operation.definition.raw["operationId"]
    return (operation, problem["field"]) not in (("confirmOrder", "lines"), ("cancelOrder", "lines"))


@schemathesis.hook
def after_call(context, case, response):
    kind = "replayed" if "idempotency-replayed" in response.headers else "new"
    seen[f"{case.operation.definition.raw['operationId']} {response.status_code} {kind}"] += 1


@atexit.register
def report():
    if "SEEN" in os.environ:
        with open(os.environ["SEEN"], "w", encoding="utf-8") as file:
            json.dump(seen, file, indent=1, sort_keys=True)
