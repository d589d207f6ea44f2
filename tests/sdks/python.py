"""Speaks with one of the Python SDKs. Usage: python python.py MODULE HOST WRITE_KEY PREFIX RETRIES

RETRIES is the SDK's own setting, or "default". Reads commands from standard input: "send FROM TO" identifies for each
number the known user PREFIX-N and the anonymous PREFIX-anonymous-N, waits until the SDK is done with them all, and
prints "sent FROM TO", or "failed FROM TO: REASON" if it gave up on any.
"""

import importlib
import logging
import sys
from datetime import datetime, timezone

module, host, write_key, prefix, retries = sys.argv[1:6]
sdk = importlib.import_module(module)
logging.disable(logging.CRITICAL)
settings = {} if retries == "default" else {"max_retries": int(retries)}
failures = []
client = sdk.Client(
    write_key, host=host, upload_interval=0.05, on_error=lambda error, batch: failures.append(error), **settings
)


def identify(user, number, **identity):
    client.identify(
        traits={
            "email": f"{user}@example.com",
            "first_name": "Ada",
            "last_name": "Byron",
            "created_at": datetime(2024, 3, 5, 9, 30, tzinfo=timezone.utc),
            "address": {"city": "London", "postal_code": "0123"},
            "logins": number,
            "old_key": None,
        },
        # Salesforce takes only calls that name it.
        integrations={"All": True, "Salesforce": True},
        **identity,
    )


print("listening", flush=True)
for line in sys.stdin:
    _, first, end = line.split()
    for number in range(int(first), int(end)):
        known, anonymous = f"{prefix}-{number}", f"{prefix}-anonymous-{number}"
        identify(known, number, user_id=known)
        identify(anonymous, number, anonymous_id=anonymous)
    client.flush()
    print(f"failed {first} {end}: {failures[0]}" if failures else f"sent {first} {end}", flush=True)
    failures.clear()
client.join()
