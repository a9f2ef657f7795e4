"""Start Apache Toree, which is the driver itself, within spark-submit."""

import glob
import importlib.util
import os
import signal
import sys

import supervise


def toree():
    """Its jar, as it comes with the package `toree`. Ends with a message where there is none."""
    found = importlib.util.find_spec("toree")
    directories = list(found.submodule_search_locations or []) if found is not None else []
    for directory in directories:
        for jar in glob.glob(os.path.join(directory, "lib", "toree-assembly-*.jar")):
            return jar
    return sys.exit(
        "no Apache Toree for {}: pip install --no-deps toree==0.5.0".format(sys.executable)
    )


def application(connection_file):
    program = ["--class", "org.apache.toree.Main", toree(), "--profile", connection_file]
    # It ends at a second SIGINT within 3 s, and jupyter_client sends one at each shutdown: by
    # this signal it is interrupted, and no more.
    return [*program, "--alternate-sigint", "USR2"]


if glob.glob(os.path.join(os.environ.get("SPARK_HOME", ""), "jars", "scala-library-2.13*.jar")):
    sys.exit("Apache Toree 0.5.0 is for Spark of Scala 2.12; that of SPARK_HOME is of 2.13")
environ = dict(os.environ)
# It asks Java for the resources of its jar in a way that is closed since Java 16.
opened = "--add-opens=java.base/java.util.jar=ALL-UNNAMED"
environ["JDK_JAVA_OPTIONS"] = (environ.get("JDK_JAVA_OPTIONS", "") + " " + opened).strip()
supervise.run(application, environ, interrupt=signal.SIGUSR2, says_when_it_waits=False)
