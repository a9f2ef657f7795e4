"""Start Scala within spark-submit: Apache Toree if it is installed and fits this Spark, otherwise
Spark's own interpreter.
"""

import glob
import importlib.util
import os
import re
import sys

import apache_toree
import submit

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch_scala.py")


def run(home):
    jars = [os.path.basename(path) for path in glob.glob(os.path.join(home, "jars", "*.jar"))]
    versions = [m[1] for m in (re.match(r"scala-library-(.*)\.jar$", jar) for jar in jars) if m]
    if versions and versions[0].startswith("2.12.") and apache_toree.jar():
        apache_toree.run()
        return
    if versions and not any(jar.startswith("spark-repl_") for jar in jars):
        sys.exit(
            "the Spark of SPARK_HOME, {} (Scala {}), has no interpreter: there is no spark-repl "
            "in its jars".format(home, versions[0])
        )
    if importlib.util.find_spec("ipykernel") is None:
        sys.exit("the Python of this launcher, {}, lacks ipykernel".format(sys.executable))
    submit.replace_by([LAUNCHER], sys.argv[1:])


run(os.environ.get("SPARK_HOME", ""))
