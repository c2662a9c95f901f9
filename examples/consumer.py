"""A consumer that leases messages of the queue `letters` over HTTP, and completes the messages. docs/WORKERS.md describes this program."""

import json, time, urllib.error, urllib.request

def call(path, body):
    url = "http://127.0.0.1:8080/v1/queues/letters/leases" + path
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))

while True:
    try:
        for message in call("", {"wait": "20s"})["messages"]:
            call("/complete", {"lease": message["lease"], "result": {"welcomed": message["data"]["to"]}})
    except urllib.error.URLError as error:  # 410: the lease is over; any other error: try again
        time.sleep(1)
