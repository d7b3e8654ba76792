#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bad link: relay.py NAMESPACE HERE THERE LOSS REORDER SEED, for kernels without netem.

Two TUN devices, HERE/30 in this namespace and THERE/30 in NAMESPACE, and this process between them,
which loses packets and lets some be overtaken by the next few. Prints "ready", ends when its input
does and then prints what it did as JSON. The devices go with it.
"""
import ctypes
import fcntl
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
HELD_SECONDS = 0.002  # at most, when nothing comes that could overtake


def device(name, address, prefix=()):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    for argv in (["addr", "add", f"{address}/30", "dev", name], ["link", "set", name, "up", "txqueuelen", "4000"]):
        subprocess.run(["ip", *prefix, *argv], check=True, capture_output=True)
    return fd


def enter(namespace):
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)


class Direction:
    """One way over the link."""

    def __init__(self, source, target, loss, reorder, chance):
        self.source, self.target, self.loss, self.reorder, self.chance = source, target, loss, reorder, chance
        self.held = []  # [packets that may still overtake it, until when, packet]
        self.counts = {"packets": 0, "lost": 0, "reordered": 0}

    def send(self, packet):
        try:
            os.write(self.target, packet)
        except OSError:  # the other end's queue is full, as a link's may be
            self.counts["lost"] += 1

    def release(self, now, overtaken):
        waiting = []
        for left, until, packet in self.held:
            if left <= overtaken or until <= now:
                self.send(packet)
            else:
                waiting.append([left - overtaken, until, packet])
        self.held = waiting

    def turn(self, now):
        for _ in range(64):
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                break
            self.counts["packets"] += 1
            if self.chance.random() < self.loss:
                self.counts["lost"] += 1
            elif self.chance.random() < self.reorder:
                self.counts["reordered"] += 1
                self.held.append([self.chance.randint(1, 3), now + HELD_SECONDS, packet])
            else:
                self.send(packet)
                if self.held:
                    self.release(now, 1)
        if self.held:
            self.release(now, 0)


def main():
    namespace, here, there = sys.argv[1:4]
    loss, reorder, seed = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
    near = device(f"bt{os.getpid()}a", here)
    enter(namespace)
    far = device(f"bt{os.getpid()}b", there)
    chance = random.Random(seed)
    ways = [Direction(near, far, loss, reorder, chance), Direction(far, near, loss, reorder, chance)]
    print("ready", flush=True)
    while True:
        waits = HELD_SECONDS if any(way.held for way in ways) else 1
        ready, _, _ = select.select([near, far, sys.stdin], [], [], waits)
        if sys.stdin in ready:
            break
        now = time.monotonic()
        for way in ways:
            way.turn(now)
    print(json.dumps({key: sum(way.counts[key] for way in ways) for key in ways[0].counts}))


if __name__ == "__main__":
    main()
