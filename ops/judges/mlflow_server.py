"""MLflow servers with a registered model, and a person who logs versions and moves aliases.

mlflow_server.py FOLDER: what the servers write goes there. Reads commands on standard input and answers each
with a line of JSON on standard output; ends with its servers at the end of the input. The first line has the
URLs of both servers.

    log MODEL [external] [late] [bare]   logs tests/models/MODEL as its next version: with weights in a file
                                         of their own, with model.toml added afterwards, without model.toml
    alias MODEL ALIAS VERSION            sets or moves an alias
    guarded                              from now on speaks to the server that asks for a password

It is not named after the package, which it could not import then.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 90
USER, PASSWORD = "sferic", "s3cret-of-%-judge"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONDONTWRITEBYTECODE": "1"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def server(folder, *options, **environment):
    """A tracking server that proxies its artifacts; its URL, and what waits until it answers."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/store.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), *options]
    log = folder / "log"
    with open(log, "w") as to:
        output = {"stdin": subprocess.DEVNULL, "stdout": to, "stderr": to}
        environment = {**os.environ, **QUIET, **environment}
        # A session of its own: the command starts workers, which are ended with it.
        running = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, **output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        # Whoever needs it waits, so that several start at once.
        yield url, lambda: wait_for(url, running, log)
    finally:
        # Its folder is thrown away, so nothing is lost.
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def wait_for(url, running, log):
    give_up = time.monotonic() + PATIENCE
    while running.poll() is None and time.monotonic() < give_up:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the MLflow server at {url} does not answer; it said:\n{log.read_text()[-3000:]}")


def digests(folder):
    """SHA-256 of each file below a folder, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def log_model(client, folder, name, *how):
    """Logs the next version; what MLflow itself downloads of it, as digests."""
    import mlflow
    import onnx

    source = ROOT / "tests/models" / name / "1"
    options = {"size_threshold": 0, "location": "weights.bin"} if "external" in how else {}
    is_beside = not {"late", "bare"} & set(how)
    logged = mlflow.onnx.log_model(
        onnx.load(source / "model.onnx"),
        name=name,
        registered_model_name=name,
        extra_files=[str(source / "model.toml")] if is_beside else None,
        # Else MLflow runs the model to find out what it needs.
        pip_requirements=["onnx"],
        **options,
    )
    if "late" in how:
        client.log_model_artifact(logged.model_id, str(source / "model.toml"))
    version = str(logged.registered_model_version)
    target = folder / f"{name}-{version}"
    target.mkdir()
    mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(target))
    return {"version": version, "files": digests(target)}


def main(folder):
    os.environ.update(QUIET)
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD.replace('%', '%%')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "only a test"}
    with ExitStack() as stack:
        started = {
            "open": stack.enter_context(server(folder / "open")),
            "guarded": stack.enter_context(server(folder / "guarded", "--app-name", "basic-auth", **secrets)),
        }
        import mlflow

        which = "open"
        urls = {name: url for name, (url, _) in started.items()}
        for _, wait in started.values():
            wait()
        print(json.dumps({**urls, "user": USER, "password": PASSWORD}), flush=True)
        for line in sys.stdin:
            command, *words = line.split()
            mlflow.set_tracking_uri(urls[which])
            client = mlflow.MlflowClient()
            if command == "log":
                answer = log_model(client, folder / which, *words)
            elif command == "alias":
                client.set_registered_model_alias(*words)
                answer = {}
            elif command == "guarded":
                which = "guarded"
                os.environ.update(MLFLOW_TRACKING_USERNAME=USER, MLFLOW_TRACKING_PASSWORD=PASSWORD)
                answer = {}
            else:
                sys.exit(f"no command {command}")
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
