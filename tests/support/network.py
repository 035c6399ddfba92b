"""Hosts of a test's own: network namespaces, each with an address, on one switch.

Rules of this file
  1. Nothing of the machine's own network is touched: the switch is a namespace too. All of it goes
     at the end, with every process that was started in it.
  2. A cut link drops packets without a word, as a cable far away does: neither end is told.
  3. It needs root, and ``ip``. Where that is not to be had, ``unavailable`` says why.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys

from command_line import Running

IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")

numbers = itertools.count()


def ip(*arguments):
    subprocess.run([str(IP), *arguments], check=True, capture_output=True, timeout=30)


def unavailable():
    """Why there can be no such hosts here; None if there can."""
    if IP is None:
        return "there is no ip (of Debian's package iproute2)"
    name = f"gr{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.decode().strip()}"
    try:
        ip("-n", name, "link", "add", "br0", "type", "bridge")
        ip("-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    except subprocess.CalledProcessError as error:
        return f"no bridge, or no veth, here: {error.stderr.decode().strip()}"
    finally:
        ip("netns", "del", name)
    return None


class Network:
    """A switch, and hosts: ``network.address("broker")``."""

    def __init__(self, directory, *hosts):
        self._directory, self._prefix = directory, f"gr{os.getpid()}-{next(numbers)}"
        self._switch = f"{self._prefix}-switch"
        self._hosts = {name: f"10.77.0.{number}" for number, name in enumerate(hosts, 1)}
        self._running = {name: [] for name in hosts}
        self._made = []
        try:
            self._make(self._switch)
            ip(
                "-n",
                self._switch,
                "link",
                "add",
                "br0",
                "type",
                "bridge",
                "stp_state",
                "0",
                "forward_delay",
                "0",
            )
            ip("-n", self._switch, "link", "set", "br0", "up")
            for name, address in self._hosts.items():
                host = self._namespace(name)
                self._make(host)
                ip(
                    "-n",
                    self._switch,
                    "link",
                    "add",
                    name,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    host,
                )
                ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
                ip("-n", host, "link", "set", "eth0", "up")
                ip("-n", self._switch, "link", "set", name, "master", "br0", "up")
        except BaseException:
            self.close()
            raise

    def _namespace(self, name):
        return f"{self._prefix}-{name}"

    def _make(self, namespace):
        ip("netns", "add", namespace)
        self._made.append(namespace)
        ip("-n", namespace, "link", "set", "lo", "up")

    def address(self, host):
        return self._hosts[host]

    def start(self, host, *command):
        """A Python program there, with lines that can be waited for (command_line.Running)."""
        running = Running(
            (str(IP), "netns", "exec", self._namespace(host), sys.executable, *command),
            self._directory,
            os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._running[host].append(running)
        return running

    def cut(self, host):
        """Take its cable out of the switch."""
        ip("-n", self._switch, "link", "set", host, "nomaster")

    def heal(self, host):
        ip("-n", self._switch, "link", "set", host, "master", "br0")

    def lose(self, host):
        """The host is gone, without a word to anybody."""
        self.cut(host)
        self._end(host)

    def _end(self, host):
        for running in self._running[host]:
            running.process.kill()
        for running in self._running[host]:
            running.process.wait()
            running.out.rest()
            running.err.rest()
        self._running[host] = []

    def close(self):
        for host in self._hosts:
            self._end(host)
        while self._made:
            ip("netns", "del", self._made.pop())
