"""Start IRkernel within spark-submit."""

import os

import submit
import supervise

HERE = os.path.dirname(os.path.abspath(__file__))


def application(connection_file):
    # For sparklyr, which runs a spark-submit of its own.
    os.environ["RP_SPARK_OPTIONS"] = "\n".join(submit.options(os.environ))
    # spark-submit accepts R scripts only if Spark has SparkR. Otherwise Python starts R.
    sparkr = os.path.isdir(os.path.join(os.environ.get("SPARK_HOME", ""), "R", "lib", "SparkR"))
    return [os.path.join(HERE, "kernel.R" if sparkr else "start_r.py"), connection_file]


supervise.run(application, os.environ)
