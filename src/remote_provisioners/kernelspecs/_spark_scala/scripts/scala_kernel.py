"""A Jupyter kernel for Scala: ipykernel speaks the protocol, Spark's own interpreter runs cells."""

import contextlib
import functools
import queue
import re
import sys
import threading
from concurrent import futures

from ipykernel.kernelbase import Kernel
from jvm_output import Output
from spark_interpreter import Interpreter

#: How long code may ignore an interrupt before its thread is ended.
_INTERRUPT_SECONDS = 3.0
_STOP_SECONDS = 5.0
_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_EXCEPTION = re.compile(r"^([\w$]+(?:\.[\w$]+)+)(?:: (.*))?\n\s+(?:at|\.\.\.) ", re.MULTILINE)
_MISTAKE = re.compile(r"error: (.*)")


class ScalaKernel(Kernel):
    implementation = "spark-scala"
    implementation_version = "1"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._scala = Interpreter()
        self.language_info = {
            "name": "scala",
            "version": self._scala.version,
            "mimetype": "text/x-scala",
            "file_extension": ".sc",
            "codemirror_mode": "text/x-scala",
        }
        self.banner = "Scala {}, the interpreter of Spark".format(self._scala.version)
        self._parent = {}
        self._outputs = {
            name: Output(functools.partial(self._show, name)) for name in ("stdout", "stderr")
        }
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name="scala", daemon=True).start()

    def open(self, mode):
        """Start to make the interpreter in its thread; cells wait for it."""
        paths = {name: output.path for name, output in self._outputs.items()}
        self._opened = self._call(self._scala.open, paths, mode != "none")
        self._opened.add_done_callback(self._is_open)
        if mode == "eager":
            self._call(self._scala.session)

    def close(self):
        """Stop the running cell, then remove everything from the engine."""
        idle = self._call(lambda: None)
        if not idle.done():
            self._scala.interrupt()
        with contextlib.suppress(futures.TimeoutError):
            idle.result(_STOP_SECONDS)
        self._scala.stop()

    async def do_execute(
        self, code, silent, store_history=True, user_expressions=None, allow_stdin=False
    ):
        self._parent = self.get_parent()
        said = {"status": "ok", "user_expressions": {}, "payload": []}
        if _COMMENTS.sub("", code).strip():
            error = self._execute(code, silent)
            if error is not None:
                said = {"status": "error", **error}
                if not silent:
                    self._publish("error", error)
        return {**said, "execution_count": self.execution_count}

    async def do_complete(self, code, cursor_pos):
        start, matches = self._call(self._scala.complete, code, cursor_pos).result()
        return {
            "status": "ok",
            "matches": matches,
            "cursor_start": start,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    def _execute(self, code, silent):
        """Run a cell. Returns the content of an error message, or None."""
        running = self._call(self._run, code)
        try:
            result, text = self._wait(running)
        except KeyboardInterrupt:
            return _error("KeyboardInterrupt", "the cell had not begun", "")
        except Exception as error:
            return _error(type(error).__name__, str(error), str(error))
        finally:
            for output in self._outputs.values():
                output.flush()
        if result == "Success":
            if text and not silent:
                data = {"text/plain": text.rstrip("\n")}
                count = {"execution_count": self.execution_count, "metadata": {}}
                self._publish("execute_result", {"data": data, **count})
            return None
        if result == "Incomplete":
            return _error("Incomplete", "the code goes on after the end of the cell", text)
        thrown, mistake = _EXCEPTION.search(text), _MISTAKE.search(text)
        if thrown:
            return _error(thrown[1], thrown[2] or "", text)
        return _error("CompileError", mistake[1] if mistake else "", text)

    def _run(self, code):
        self._opened.result()
        return self._scala.run(code)

    def _wait(self, running):
        """The value of a call, which an interrupt may end early. Raises KeyboardInterrupt."""
        ending = None
        while True:
            try:
                value = running.result()
                if ending is not None:
                    ending.join()  # otherwise it could interrupt the next cell
                return value
            except KeyboardInterrupt:
                if running.cancel():
                    raise
                ending = threading.Thread(target=self._interrupt, args=(running,), daemon=True)
                ending.start()

    def _interrupt(self, running):
        # Runs in a thread of its own, because each thread has its own connection to the JVM.
        try:
            self._scala.interrupt()
            running.exception(_INTERRUPT_SECONDS)
        except futures.TimeoutError:
            self._end(running)
        except Exception as error:
            self._show("stderr", "cannot be interrupted: {}\n".format(error))

    def _end(self, running):
        try:
            self._scala.end_thread()
        except Exception:
            if not running.done():
                self._show("stderr", "the cell takes no notice of the interrupt, and goes on\n")

    def _call(self, function, *arguments):
        future = futures.Future()
        self._calls.put((future, function, arguments))
        return future

    def _work(self):
        while True:
            future, function, arguments = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

    def _is_open(self, opened):
        for output in self._outputs.values():
            output.opened()
        if opened.exception() is not None:
            print("no interpreter of Scala:", opened.exception(), file=sys.__stderr__, flush=True)

    def _show(self, name, text):
        self._publish("stream", {"name": name, "text": text})

    def _publish(self, kind, content):
        self.session.send(self.iopub_socket, kind, content, self._parent, self._topic(kind))


def _error(name, value, text):
    lines = text.rstrip("\n").split("\n") if text else [name + ": " + value]
    return {"ename": name, "evalue": value, "traceback": lines}
