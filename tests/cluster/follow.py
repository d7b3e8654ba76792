#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""follow.py ADDRESS CLUSTER QUOTA-FILE TIMES: halves the quota of a container and gives it back, so many times, and looks
every 20 ms at the share of the address in the weights of the Envoy whose admin port is 127.0.0.1:15000. Fails where the
median of the first moves is above 2 s."""
import http.client
import json
import statistics
import sys
import time

address, cluster, quota_file, times = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def share():
    link = http.client.HTTPConnection('127.0.0.1', 15000, timeout=3)
    link.request('GET', '/clusters?format=json')
    weights = {}
    for each in json.loads(link.getresponse().read())['cluster_statuses']:
        if each['name'] == cluster:
            weights = {h['address']['socket_address']['address']: h.get('weight', 1) for h in each['host_statuses']}
    link.close()
    return weights[address] / sum(weights.values())


def set_quota(words):
    with open(quota_file, 'w', encoding='ascii') as file:
        file.write(' '.join(words))


with open(quota_file, encoding='ascii') as given:
    whole = given.read().split()
half = [str(int(whole[0]) // 2)] + whole[1:]
moved, ended = [], []
try:
    for _ in range(times):
        seen = [(0.0, share())]
        begun = time.monotonic()
        set_quota(half)
        while time.monotonic() - begun < 5:
            seen.append((time.monotonic() - begun, share()))
            time.sleep(0.02)
        set_quota(whole)
        before, after = seen[0][1], seen[-1][1]
        step = before - after
        first = next((t for t, s in seen if before - s > 0.25 * step), None) if step > 0.02 else None
        last = next((t for t, _ in seen if all(abs(s - after) < 0.1 * step for u, s in seen if u >= t)), None) if first else None
        print(f'share {before:.3f} -> {after:.3f}, moved after {first} s, within a tenth of its end after {last} s')
        if first is not None:
            moved.append(first)
            ended.append(last)
        time.sleep(4)
finally:
    set_quota(whole)
if not moved:
    sys.exit('the weights did not follow')
print(f'moved after {statistics.median(moved):.2f} s, within a tenth of the end after {statistics.median(ended):.2f} s, medians of {len(moved)}')
sys.exit(statistics.median(moved) > 2)
