"""Servers that the measured clients talk to. Each ends with the `with` block that it was made for."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _process(arguments, port):
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{arguments[0]} does not listen") from None
                time.sleep(0.01)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Web:
    """A static web server (nginx) on a directory; its log has the bytes of every answer."""

    def __init__(self, port, log):
        self.port, self.log = port, log
        self.url = f"http://127.0.0.1:{port}"

    def forget(self):
        # nginx goes on writing at the end of the emptied file.
        os.truncate(self.log, 0)

    def counted(self, settle=0.2):
        """(requests, bytes of bodies, bytes with all headers both ways) since `forget`."""
        time.sleep(settle)  # A request is logged after its last byte is sent.
        with open(self.log) as log:
            rows = [[int(word) for word in line.split()] for line in log if line.strip("\0\n ")]
        return len(rows), sum(row[0] for row in rows), sum(row[1] + row[2] for row in rows)


@contextmanager
def web(directory, work):
    port = free_port()
    os.makedirs(f"{work}/nginx", exist_ok=True)
    log = f"{work}/nginx/access-{port}.log"
    with open(f"{work}/nginx/nginx-{port}.conf", "w") as conf:
        conf.write(f"""
            daemon off; worker_processes 2; pid {work}/nginx/{port}.pid; error_log {work}/nginx/error.log; user root;
            events {{}}
            http {{
                log_format sizes '$body_bytes_sent $bytes_sent $request_length';
                access_log {log} sizes;
                client_body_temp_path {work}/nginx/b; proxy_temp_path {work}/nginx/p; fastcgi_temp_path {work}/nginx/f;
                uwsgi_temp_path {work}/nginx/u; scgi_temp_path {work}/nginx/s;
                default_type application/octet-stream; sendfile on; keepalive_requests 100000;
                server {{ listen 127.0.0.1:{port}; root {directory}; }}
            }}""")
    with _process(["nginx", "-p", work, "-c", f"{work}/nginx/nginx-{port}.conf"], port):
        server = Web(port, log)
        server.forget()
        yield server


@contextmanager
def rsync(directory, work):
    """An rsync daemon with `directory` as module `in`."""
    port = free_port()
    conf = f"{work}/rsyncd-{port}.conf"
    with open(conf, "w") as out:
        out.write(f"use chroot = no\nuid = root\ngid = root\n[in]\npath = {directory}\nread only = yes\n")
    with _process(["rsync", "--daemon", "--no-detach", f"--port={port}", "--address=127.0.0.1", f"--config={conf}"], port):
        yield port


@contextmanager
def slow(target):
    """The slow line to a local port."""
    port = free_port()
    with _process([sys.executable, f"{HERE}/slow_link.py", str(port), str(target)], port):
        yield port
