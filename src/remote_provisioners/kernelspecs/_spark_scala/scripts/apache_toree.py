"""Start Apache Toree within spark-submit. Toree itself is the driver."""

import glob
import importlib.util
import os
import signal

import supervise


def jar():
    """The path of Toree's jar (for Scala 2.12) in the package `toree`; "" if there is none."""
    found = importlib.util.find_spec("toree")
    directories = list(found.submodule_search_locations or []) if found is not None else []
    for directory in directories:
        for path in glob.glob(os.path.join(directory, "lib", "toree-assembly-*.jar")):
            return path
    return ""


def run():
    environ = dict(os.environ)
    # Toree reads the resources of its jar in a way that Java forbids since version 16.
    opened = "--add-opens=java.base/java.util.jar=ALL-UNNAMED"
    environ["JDK_JAVA_OPTIONS"] = (environ.get("JDK_JAVA_OPTIONS", "") + " " + opened).strip()
    supervise.run(_application, environ, interrupt=signal.SIGUSR2, says_when_it_waits=False)


def _application(connection_file):
    program = ["--class", "org.apache.toree.Main", jar(), "--profile", connection_file]
    # Toree ends at a second SIGINT within 3 s, and jupyter_client sends one at each shutdown.
    # SIGUSR2 only interrupts it.
    return [*program, "--alternate-sigint", "USR2"]
