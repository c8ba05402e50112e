"""Runs the server of one Airflow home: serve.py VERSION DIR PORT PATH.

Prints "ready URL" once it answers, ends on SIGTERM, SIGINT or when a piped
standard input closes, and leaves no process behind, however it ends itself.
"""

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request

START_SECONDS = 180
STOP_SECONDS = 5


def main(version, folder, port, path):
    three = not version.startswith("2.")
    port = claim(int(port))
    url = f"http://127.0.0.1:{port}{path}"
    env = os.environ | server_secrets(folder)
    env["HOME"] = folder  # for what Airflow's servers keep outside AIRFLOW_HOME
    env.pop("XDG_RUNTIME_DIR", None)
    env["AIRFLOW__API__BASE_URL"] = env["AIRFLOW__WEBSERVER__BASE_URL"] = url
    # Left behind by a server that was killed; the next one would refuse to start.
    for name in os.listdir(folder):
        if name.endswith(".pid"):
            os.remove(os.path.join(folder, name))
    command = ["api-server", "--host"] if three else ["webserver", "--hostname"]
    command = [sys.executable, "-m", "airflow", *command, "127.0.0.1", "--port", str(port)]

    told, tell = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(tell, b"stop"))
    log = os.path.join(folder, "airflow.log")
    keeper, lifeline = keep(command, env, log)
    stops = [told, keeper]
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        stops.append(0)

    ready = url + ("/api/v2/version" if three else "/api/v1/version")
    deadline = time.monotonic() + START_SECONDS
    while not (stopped := wait(stops, 0.1)) and not answers(ready):
        if time.monotonic() > deadline:
            stopped = [keeper]
            break
    else:
        if not stopped:
            print("ready", url, flush=True)
            stopped = wait(stops, None)

    os.close(lifeline)
    wait([keeper], None)  # which is the last of its group to go
    if keeper in stopped:
        with open(log, encoding="utf-8", errors="replace") as lines:
            sys.stderr.writelines(lines.readlines()[-20:])
        sys.exit(f"scripts/airflow: Airflow {version} ended or did not start (whole log: {log})")


def keep(command, env, log):
    """Starts command in a process group that a keeper process takes down when
    this process ends, by whatever death. Gives two ends of pipes: one that is
    readable when the group is gone, one to close to end it."""
    gone, keeper_lives = os.pipe()
    cut, lifeline = os.pipe()
    if os.fork():
        os.close(keeper_lives)
        os.close(cut)
        return gone, lifeline

    os.setsid()
    os.close(lifeline)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    died, tell = os.pipe()
    signal.signal(signal.SIGCHLD, lambda *_: os.write(tell, b"died"))
    signal.signal(signal.SIGTERM, lambda *_: None)  # its own, to the group
    server = subprocess.Popen(command, env=env)
    wait([cut, died], None)
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(STOP_SECONDS)
    os.killpg(0, signal.SIGKILL)


def wait(files, seconds):
    return select.select(files, [], [], seconds)[0]


def answers(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(url, timeout=5).status == 200
    except OSError:  # refused, reset, or a status of an error
        return False


def claim(port):
    """The port, or a free one for 0, known to be free now."""
    try:
        with socket.create_server(("127.0.0.1", port)) as server:
            return server.getsockname()[1]
    except OSError as error:
        sys.exit(f"scripts/airflow: port {port} can't be used: {os.strerror(error.errno)}")


def server_secrets(folder):
    """Settings with the secrets of this home, made at its first start."""
    file = os.path.join(folder, "secrets.json")
    if not os.path.exists(file):
        made = {
            f"AIRFLOW__{name}": secrets.token_hex(32)
            for name in ("API_AUTH__JWT_SECRET", "API__SECRET_KEY", "WEBSERVER__SECRET_KEY")
        }
        with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as out:
            json.dump(made, out)
    with open(file, encoding="utf-8") as lines:
        return json.load(lines)


main(*sys.argv[1:])
