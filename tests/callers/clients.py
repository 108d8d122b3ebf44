"""The other clients of Circus's library: the asynchronous one, the consumer of events, and the statistics program.

Arguments: endpoint, event endpoint, an endpoint for statistics, the program circusd-stats.
"""
import asyncio
import json
import subprocess
import sys
import threading
import time

from circus.client import AsyncCircusClient, CircusClient
from circus.consumer import CircusConsumer

endpoint, pubsub, stats, circusd_stats = sys.argv[1:]


async def ask():
    client = AsyncCircusClient(endpoint=endpoint)
    listed = await client.send_message("list")
    counted = await client.call({"command": "numwatchers", "properties": {}})
    wrong = await client.send_message("nonsense")
    client.stop()
    return listed, counted, wrong


listed, counted, wrong = asyncio.run(ask())
assert listed["watchers"] == ["web"] and counted["numwatchers"] == 1, (listed, counted)
assert wrong["status"] == "error" and wrong["errno"] == 2, wrong


def first_of(topics, source, wanted, cause):
    """Events until one is wanted; `cause` is done again and again, because nobody says when a subscription arrived."""
    done = threading.Event()
    consumer = CircusConsumer(topics, endpoint=source, timeout=60)

    def causing():
        client = CircusClient(endpoint=endpoint, timeout=60)
        while not done.wait(0.1):
            cause(client)
        client.stop()

    thread = threading.Thread(target=causing)
    thread.start()
    try:
        for topic, message in consumer:
            found = wanted(topic.decode(), json.loads(message))
            if found:
                return found
    finally:
        done.set()
        thread.join()


def restart(client):
    client.send_message("restart", name="web", waiting=True)


pid = first_of(["watcher.web."], pubsub, lambda topic, event: topic == "watcher.web.spawn" and event["process_pid"], restart)
assert isinstance(pid, int), pid

# The real circusd-stats, which asks the daemon, follows its events and publishes what it measures.
program = subprocess.Popen([circusd_stats, "--endpoint", endpoint, "--pubsub", pubsub, "--statspoint", stats,
                            "--log-level", "ERROR"])
try:
    pids = CircusClient(endpoint=endpoint).send_message("list", name="web")["pids"]
    measured = first_of(["stat.web."], stats, lambda topic, stat: stat, lambda client: None)
    assert measured["pid"] in pids, (measured, pids)
    circus = first_of(["stat.circus."], stats, lambda topic, stat: stat["name"] == "circusd" and stat, lambda client: None)
    dstats = CircusClient(endpoint=endpoint).send_message("dstats")
    assert circus["pid"] == dstats["info"]["pid"], (circus, dstats)
finally:
    program.terminate()
    program.wait()
