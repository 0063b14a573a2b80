"""Collects what a broker hands on; tests/daemon/sinks.rs runs it.

mqtt_subscriber.py PORT N    prints a line once it has subscribed, and at the end the topics and ids of what
                             came, once N are there and a second more has passed
"""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt

came = []
subscribed = threading.Event()


def on_connect(client, *_):
    client.subscribe("#", qos=2)


def on_message(_client, _userdata, message):
    outcome = (message.topic, json.loads(message.payload)["frame_id"])
    # The broker itself hands on again what this client had not confirmed.
    if not (message.dup and outcome in came):
        came.append(outcome)


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="judge", clean_session=False)
    client.on_connect = on_connect
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(30), "the broker is not there"
    print("subscribed", flush=True)
    deadline = time.monotonic() + 90
    while len(set(came)) < count and time.monotonic() < deadline:
        if len(came) > count // 6:
            # Said once, so that the test knows that some have come.
            print("some", flush=True)
            break
        time.sleep(0.02)
    while len(set(came)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    print(json.dumps(came), flush=True)


if __name__ == "__main__":
    main()
