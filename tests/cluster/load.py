#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py PROXY-IP:PORT RATE HOST...: so many requests a second to each host through one proxy, in turns, over
connections that stay, until SIGTERM. Then one line of JSON: by host how many were answered 200 and what failed, with
the second since the start. Hosts are asked in pairs at the same moment, so that what fails for one of them alone is its
own."""
import http.client
import json
import signal
import sys
import threading
import time

proxy, rate, hosts = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
WORKERS = 4
begun = time.monotonic()
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
counts = {host: {'ok': 0, 'failed': []} for host in hosts}
lock = threading.Lock()


def work(offset):
    links = {}
    due = begun + offset / rate
    while not stop.is_set():
        time.sleep(max(0, due - time.monotonic()))
        due = max(due + WORKERS / rate, time.monotonic() - 1)
        for host in hosts:
            wrong = ''
            try:
                if host not in links:
                    links[host] = http.client.HTTPConnection(proxy, timeout=15)
                links[host].request('GET', '/', headers={'Host': host})
                answer = links[host].getresponse()
                body = answer.read()
                if answer.status != 200:
                    wrong = f'{answer.status} {body[:80].decode(errors="replace")}'
            except (OSError, http.client.HTTPException) as error:
                wrong = repr(error)
                links.pop(host, None)
            with lock:
                if wrong:
                    counts[host]['failed'].append(f'{time.monotonic() - begun:.1f} s: {wrong}')
                else:
                    counts[host]['ok'] += 1


threads = [threading.Thread(target=work, args=(i,)) for i in range(WORKERS)]
for thread in threads:
    thread.start()
while not stop.wait(0.2):
    pass
for thread in threads:
    thread.join()
print(json.dumps({host: {'ok': c['ok'], 'failed': len(c['failed']), 'first': c['failed'][:5]} for host, c in counts.items()}))
