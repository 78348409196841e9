"""A daemon whose clock runs fast, as a process to be killed: ``python monitor_daemon.py ROOT BEGAN SPEED``.

The simulated time is T0 plus ``SPEED`` times the real seconds since ``BEGAN``, so all processes agree on it.
"""

import datetime as dt
import signal
import sys
import threading
import time

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

from monitor_world import T0  # noqa: E402

from feedback_lib import watch  # noqa: E402  after the signal: it takes a second

if __name__ == "__main__":
    root, began, speed = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    own = watch.run(
        "spec-api-001",
        root,
        interval_s=0.15,
        port=0,
        stop=stop,
        clock=lambda: T0 + dt.timedelta(seconds=(time.time() - began) * speed),
    )
    sys.stdout.write(f"stopped after {own.evaluations}\n")
