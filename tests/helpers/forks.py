"""Real processes at the price of a fork: a server that has imported all, and has started nothing.

Run as a program it is the server: a line of JSON says what to run, and it answers with the number of the new process;
a number asks for the end of that process, and it answers with the exit code.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys


class Server:
    """Starts commands of the package, each in a process of its own; `close` ends it."""

    def __init__(self, **extra):
        from processes import environment  # of the tests' side

        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment(**extra),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, command, *argv, log, **settings):
        """`python -m cuma_jax.<command> <argv>`, what it says into the file `log`.

        Args:
            settings: `uid` to run as, and `largest`, the size that no file may exceed.
        """
        pathlib.Path(log).touch()
        return Fork(self, self._ask([command, [*map(str, argv)], str(log), settings]), pathlib.Path(log))

    def _ask(self, line):
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


class Fork:
    """A process that a server has started."""

    def __init__(self, server, pid, log):
        self._server, self.pid, self._log, self._code = server, pid, log, None

    def send(self, number):
        os.kill(self.pid, number)

    def runs(self):
        """Whether it has not ended; without taking its exit code."""
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"

    def end(self):
        """Its exit code, when it has ended; minus the number of the signal that ended it."""
        if self._code is None:
            self._code = self._server._ask(self.pid)
        return self._code

    def said(self):
        return self._log.read_text()


def _serve():
    _imports()
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            print(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]), flush=True)
            continue
        if pid := os.fork():
            print(pid, flush=True)
        else:
            _become(*asked)


def _imports():

    import cuma_jax.commands.data.command_line
    import cuma_jax.commands.evaluate
    import cuma_jax.commands.export
    import cuma_jax.commands.generate
    import cuma_jax.commands.score_run
    import cuma_jax.commands.train_runs
    import cuma_jax.generation.texts
    import cuma_jax.interop.export.peft
    import cuma_jax.objectives.choice
    import cuma_jax.training.loop  # noqa: F401


def _become(command, argv, log, settings):
    import resource

    from cuma_jax.runtime.errors import run_main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    if largest := settings.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if uid := settings.get("uid"):
        os.setgid(uid)
        os.setuid(uid)
    module = {"data": "cuma_jax.commands.data.command_line"}.get(command, f"cuma_jax.commands.{command}")
    sys.argv = sys.orig_argv = [command, *argv]
    code = 0
    try:
        run_main(module)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
