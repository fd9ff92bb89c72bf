# SPDX-License-Identifier: Apache-2.0
"""A real registry (Debian's docker-registry) on a loopback port, what stands around it (a CA,
an issuer of tokens), and a proxy that does to its answers what networks do."""
import base64
import http.client
import http.server
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

USER, PASSWORD = "tester", "geheim:1 2"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def openssl(*args, **kw):
    return subprocess.run(["openssl", *args], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, **kw).stdout


class Authority:
    """A CA of our own, and certificates for localhost."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.ca, self.ca_key = self.folder / "ca.crt", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                "/CN=test-ca", "-keyout", self.ca_key, "-out", self.ca)

    def issue(self, name, usage="serverAuth"):
        key, crt, csr = (self.folder / f"{name}.{x}" for x in ("key", "crt", "csr"))
        ext = self.folder / f"{name}.ext"
        ext.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key,
                "-out", csr)
        openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.ca_key,
                "-CAcreateserial", "-days", "2", "-extfile", ext, "-out", crt)
        return crt, key


class Registry:
    """docker-registry; `auth` is None, "basic" or an Issuer; `tls` is an Authority."""

    def __init__(self, auth=None, tls=None, client_certs=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-registry-"))
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        self.plain = tls is None
        config = {
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")},
                        "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "x"},
        }
        if tls:
            crt, key = tls.issue("localhost")
            config["http"]["tls"] = {"certificate": str(crt), "key": str(key)}
            if client_certs:
                config["http"]["tls"]["clientcas"] = [str(tls.ca)]
        if auth == "basic":
            passwd = self.folder / "htpasswd"
            passwd.write_bytes(subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True,
                                              stdout=subprocess.PIPE).stdout)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwd)}}
        elif auth:
            config["auth"] = {"token": {"realm": auth.url, "service": "test-registry",
                                        "issuer": "test-issuer",
                                        "rootcertbundle": str(auth.crt)}}
        path = self.folder / "config.yml"
        path.write_text(json.dumps(config))   # JSON is YAML
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=self.log,
                                        stderr=self.log)
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.close()
                    raise
                time.sleep(0.05)

    def put(self, image, name, tag):
        """Place an image into the registry's storage by its own API (no auth, no TLS)."""
        for d, data in image.blobs.items():
            if d != image.manifest:
                self.put_blob(name, d, data)
        self.put_manifest(name, tag, image.blobs[image.manifest])

    def request(self, method, path, body=None, headers={}):
        c = http.client.HTTPConnection("127.0.0.1", self.port)
        c.request(method, path, body, headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r, data

    def put_blob(self, name, digest, data):
        r, _ = self.request("POST", f"/v2/{name}/blobs/uploads/")
        url = urllib.parse.urlsplit(r.headers["Location"])
        r, text = self.request("PUT", f"{url.path}?{url.query}&digest={digest}", data,
                               {"Content-Type": "application/octet-stream"})
        assert r.status == 201, text

    def put_manifest(self, name, tag, data):
        kind = json.loads(data)["mediaType"]
        r, text = self.request("PUT", f"/v2/{name}/manifests/{tag}", data, {"Content-Type": kind})
        assert r.status == 201, text

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)


class Server:
    """A threaded HTTP server around a function of the handler; `do` answers every method."""

    def __init__(self, do, tls=None):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle_any(self):
                outer.seen.append((self.command, self.path, dict(self.headers)))
                do(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_PATCH = handle_any

            def body(self):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def reply(self, status, data=b"", headers=()):
                self.send_response(status)
                for k, v in dict(headers).items():
                    self.send_header(k, v)
                if "Content-Length" not in dict(headers):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def cut(self):
                """End the connection as a broken network does."""
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                           b"\1\0\0\0\0\0\0\0")
                self.connection.close()

            def finish(self):
                try:
                    super().finish()
                except OSError:
                    pass

            def handle(self):
                try:
                    super().handle()
                except (OSError, ValueError):
                    pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass

        self.seen = []
        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        self.host = f"localhost:{self.port}"
        self.plain = tls is None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls.issue("proxy"))
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class Proxy(Server):
    """
    Between a client and a registry. `fault(handler, status, headers, data)` may answer
    instead (and return True); it is called with the registry's true answer. `served` counts
    the bytes of blobs that went out.
    """

    def __init__(self, upstream, fault=None, tls=None):
        self.upstream = upstream
        self.fault = fault
        self.served = 0
        self.lock = threading.Lock()
        super().__init__(self.forward, tls)

    def forward(self, h):
        c = http.client.HTTPConnection("127.0.0.1", self.upstream.port)
        headers = {k: v for k, v in h.headers.items() if k.lower() not in ("connection",)}
        c.request(h.command, h.path, h.body(), headers)
        r = c.getresponse()
        data = r.read()
        out = {k: v for k, v in r.headers.items()
               if k.lower() not in ("connection", "transfer-encoding", "date")}
        out.pop("Content-Length", None)
        if h.command == "HEAD":
            out["Content-Length"] = r.headers.get("Content-Length", "0")
        c.close()
        if "Location" in out:
            out["Location"] = out["Location"].replace(self.upstream.host, self.host)
        if self.fault and self.fault(h, r.status, out, data):
            return
        self.count(h, data)
        h.reply(r.status, data, out)

    def count(self, h, data):
        if "/blobs/" in h.path and h.command == "GET":
            with self.lock:
                self.served += len(data)

    def send_cut(self, h, status, headers, data, n):
        """The true head, the first n bytes, and then nothing more."""
        h.send_response(status)
        for k, v in headers.items():
            h.send_header(k, v)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:n])
        h.wfile.flush()
        self.count(h, data[:n])
        time.sleep(0.05)   # so that what was sent arrives before the reset
        h.cut()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer(Server):
    """
    Issues tokens that docker-registry believes. GET with basic authentication, or POST with
    the refresh token "refresh-me"; without either only `public` repositories, for pulling.
    """

    def __init__(self, public=(), seconds=300):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holm-issuer-"))
        self.key, self.crt = self.folder / "key.pem", self.folder / "crt.pem"
        self.public, self.seconds = public, seconds
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                "/CN=issuer", "-keyout", self.key, "-out", self.crt)
        super().__init__(self.answer)
        self.url = f"http://{self.host}/token"

    def token(self, user, scopes):
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = actions.split(",") if user else \
                [a for a in actions.split(",") if a == "pull" and name in self.public]
            if granted:
                access.append({"type": kind, "name": name, "actions": granted})
        der = base64.b64encode(openssl("x509", "-in", self.crt, "-outform", "DER")).decode()
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {"iss": "test-issuer", "sub": user or "", "aud": "test-registry",
                  "exp": now + self.seconds, "nbf": now - 10, "iat": now, "jti": str(now),
                  "access": access}
        signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        return signed + "." + b64(openssl("dgst", "-sha256", "-sign", self.key,
                                          input=signed.encode()))

    def answer(self, h):
        body = h.body().decode()
        query = urllib.parse.parse_qs(body if h.command == "POST" else
                                      urllib.parse.urlsplit(h.path).query)
        user = None
        if h.command == "POST":
            if query.get("grant_type") != ["refresh_token"] or \
                    query.get("refresh_token") != ["refresh-me"]:
                return h.reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            user = "refreshed"
        elif h.headers.get("Authorization"):
            good = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if h.headers["Authorization"] != "Basic " + good:
                return h.reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            user = USER
        key = "access_token" if h.command == "POST" else "token"
        h.reply(200, json.dumps({key: self.token(user, query.get("scope", []))}).encode(),
                {"Content-Type": "application/json"})

    def close(self):
        super().close()
        shutil.rmtree(self.folder)
