"""Sends what the Ruby or the PHP SDK sends, where neither can be installed: this is no SDK, only its form on the wire.

Usage: python wire_form.py ruby|php HOST WRITE_KEY PREFIX RETRIES, with the certificate to trust in SSL_CERT_FILE. Both
SDKs speak https only. Commands and answers are those of python.py. What is copied here, as read in analytics-ruby 2.5
and analytics-php 3.8 (2026-11): path, headers, envelope, the keys of a call, the forms of dates and ids, which answers
are tried again and after which waits. RETRIES replaces their limit on tries, or is "default".
"""

import base64
import http.client
import json
import random
import ssl
import sys
import time
import uuid
from datetime import datetime, timezone
from urllib.parse import urlsplit

kind, host, write_key, prefix, retries = sys.argv[1:6]
address = urlsplit(host)


def ruby_time():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def php_time():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def ruby_call(identity, traits):
    return {
        **identity,
        "integrations": INTEGRATIONS,
        "context": {"library": {"name": "analytics-ruby", "version": "2.5.0"}},
        "messageId": str(uuid.uuid4()),
        "timestamp": ruby_time(),
        "type": "identify",
        "traits": traits,
    }


def php_call(identity, traits):
    library = {"name": "analytics-php", "version": "3.8.2", "consumer": "LibCurl"}
    return {
        **identity,
        "integrations": INTEGRATIONS,
        "traits": traits,
        "context": {"library": library},
        "timestamp": php_time(),
        "messageId": str(uuid.uuid4()),
        "type": "identify",
    }


def ruby_waits():
    """Ten requests in all."""
    for attempt in range(9 if retries == "default" else int(retries)):
        wait = 0.1 * 1.5**attempt
        yield min(wait * random.uniform(0.5, 1.5), 10)


def php_waits():
    """Until the wait has doubled to ten seconds."""
    for attempt in range(7 if retries == "default" else int(retries)):
        yield 0.1 * 2**attempt


FORMS = {
    "ruby": {
        "path": "/v1/import",
        "headers": {"Accept": "application/json", "User-Agent": "analytics-ruby/2.5.0"},
        "call": ruby_call,
        "envelope": lambda calls: {"sentAt": ruby_time(), "batch": calls},
        "next_body": lambda body: {**body, "sentAt": ruby_time()},
        "waits": ruby_waits,
        # Any answer that is not JSON, and a connection that breaks, is tried again too.
        "again": lambda status: status is None or status == 429 or status >= 500,
    },
    "php": {
        "path": "/v1/batch",
        "headers": {"Accept": "*/*", "User-Agent": "analytics-php/3.8.2"},
        "call": php_call,
        "envelope": lambda calls: {"batch": calls, "sentAt": php_time()},
        "next_body": lambda body: body,
        "waits": php_waits,
        # A connection that is refused or breaks loses the batch at once.
        "again": lambda status: status is not None and (status == 429 or status >= 500),
    },
}
form = FORMS[kind]
INTEGRATIONS = {"All": True, "Salesforce": True}  # Salesforce takes only calls that name it.


def post(body):
    """The status, or nothing where the network failed."""
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=30, context=context)
    key = base64.b64encode(f"{write_key}:".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {key}", **form["headers"]}
    try:
        connection.request("POST", form["path"], body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def deliver(calls):
    """Nothing where it is delivered, else what went wrong last."""
    waits = form["waits"]()
    body = form["envelope"](calls)
    while (status := post(json.dumps(body))) != 200:
        wait = next(waits, None)
        if wait is None or not form["again"](status):
            return f"[{status}]"
        time.sleep(wait)
        body = form["next_body"](body)
    return None


def traits(user, number):
    return {
        "email": f"{user}@example.com",
        "firstName": "Ada",
        "lastName": "Byron",
        "createdAt": "2024-03-05T09:30:00Z",
        "address": {"city": "London", "postalCode": "0123"},
        "logins": number,
        "old_key": None,
    }


print("listening", flush=True)
for line in sys.stdin:
    _, first, end = line.split()
    calls = []
    for number in range(int(first), int(end)):
        known, anonymous = f"{prefix}-{number}", f"{prefix}-anonymous-{number}"
        calls.append(form["call"]({"userId": known}, traits(known, number)))
        calls.append(form["call"]({"anonymousId": anonymous}, traits(anonymous, number)))
    problem = deliver(calls)
    print(f"failed {first} {end}: {problem}" if problem else f"sent {first} {end}", flush=True)
