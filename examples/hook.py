"""A receiver of Drover's handler `http`, described in docs/WORKERS.md: python3 hook.py PORT"""

import base64, hashlib, hmac, json, re, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]  # make your own: echo whsec_$(openssl rand -base64 32)

def number(text):
    return int(text) if re.fullmatch("[0-9]{1,12}", text or "") else None

def is_signed(headers, body):
    name, at, given = (headers[header] or "" for header in ("webhook-id", "webhook-timestamp", "webhook-signature"))
    if number(at) is None or abs(time.time() - number(at)) > 300:
        return False
    signed = f"{name}.{at}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in SECRETS]
    good = [b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    return any(hmac.compare_digest(a, b) for a in given.encode().split() for b in good)

class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        length = number(self.headers["content-length"])
        if length is None or length > 4 << 20:
            self.close_connection = True
            return self.answer(400, {"error": "send a content-length of at most 4 MiB"})
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.answer(401, {"error": "not signed by my queue"})
        try:
            to = json.loads(body)["to"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return self.answer(422, {"error": "nobody to write to"})
        self.answer(200, {"welcomed": to, "attempt": number(self.headers["drover-attempt"])})

    def answer(self, status, result):
        body = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
