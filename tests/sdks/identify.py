"""Speaks with Segment's official Python SDK. Usage: python identify.py HOST WRITE_KEY PREFIX

Reads commands from standard input: "send FROM TO" identifies users PREFIX-FROM … PREFIX-(TO-1), waits until the SDK has
them all delivered, and prints "sent FROM TO".
"""

import sys
from datetime import datetime, timezone

import segment.analytics as analytics

host, write_key, prefix = sys.argv[1:4]
analytics.host = host
analytics.write_key = write_key
analytics.max_retries = 30
analytics.on_error = lambda error, items: print("sdk:", error, file=sys.stderr)

for line in sys.stdin:
    _, first, end = line.split()
    for i in range(int(first), int(end)):
        analytics.identify(
            f"{prefix}-{i}",
            {
                "email": f"{prefix}-{i}@example.com",
                "first_name": "Ada",
                "last_name": "Byron",
                "created_at": datetime(2024, 3, 5, 9, 30, tzinfo=timezone.utc),
                "address": {"city": "London", "postal_code": "0123"},
                "logins": i,
                "old_key": None,
            },
        )
    analytics.flush()
    print(f"sent {first} {end}", flush=True)
analytics.shutdown()
