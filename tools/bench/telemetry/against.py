# SPDX-License-Identifier: Apache-2.0
"""Two builds' programs against each other: kernel time a request, interleaved in one run on one machine."""
import contextlib
import statistics

from cost import STEADY_RATE, nanoseconds_of, order

TARGET = 0.5


@contextlib.contextmanager
def build(bench, binaries):
    """The agent is that build's; load and server stay the same."""
    own, bench.agent_bin = bench.agent_bin, binaries
    try:
        yield
    finally:
        bench.agent_bin = own


def compare(bench, other, rate, pairs, seconds, say):
    """ns a request by the kernel's own clock. The empty pair's, which is the clock's and the call's, is told, not
    taken off: it is in both."""
    ns = {"this": [], "other": []}
    ratios, attained = [], []
    kinds = {"this": bench.bin, "other": other}
    empty, _, _ = nanoseconds_of(bench, "empty", rate, seconds)
    for pair in range(pairs):
        for kind in order(list(kinds), pair):
            with build(bench, kinds[kind]):
                each, _, reached = nanoseconds_of(bench, "on", rate, seconds)
            ns[kind].append(each)
            attained.append(reached)
        ratios.append(ns["this"][-1] / ns["other"][-1])
        say({"case": "against", "pair": pair, "ns_this": ns["this"][-1], "ns_other": ns["other"][-1]})
    median = statistics.median(ratios)
    return {"case": "kernel time a request, against", "rate": round(statistics.median(attained)), "pairs": pairs,
            "ns_this": round(statistics.median(ns["this"]), 1), "ns_other": round(statistics.median(ns["other"]), 1),
            "ns_empty": round(empty, 1), "ratio_against": median, "ratios": ratios, "target": TARGET,
            "pass": median <= TARGET}


def run(bench, other, pairs, seconds, say):
    bench.stop_agent()
    rows = []
    for rate in (STEADY_RATE, 0):  # 0: the maximum
        rows.append(compare(bench, other, rate, pairs, seconds, say))
        say(rows[-1])
    return rows
