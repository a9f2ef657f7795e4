"""The same questions in each language."""

from __future__ import annotations

from dataclasses import dataclass

from remote_provisioners.cli.spec.samples import samples

#: Made on the node where a job runs, and on the host where a cell sleeps.
JOB_RUNS, ASLEEP = "job-runs", "cell-sleeps"


@dataclass(frozen=True)
class Language:
    """`job` gives `result`; `slow` is a job that makes JOB_RUNS and goes on for a minute."""

    line: str
    error: str
    begun: str
    completed: str
    job: str
    result: str
    sleep: str
    #: What the reply to an interrupted cell has.
    interrupted: str
    slow: str


_PYTHON = Language(
    line="print('a line')",
    error="raise ValueError('boom')",
    begun="spark.createDataFr",
    completed="createDataFrame",
    job="sc.parallelize(range(101), 2).map(lambda x: x).sum()",
    result="5050",
    sleep="import time; open('/tmp/cell-sleeps', 'w').close()\nwhile True: time.sleep(0.01)",
    interrupted="KeyboardInterrupt",
    slow="""
def slow(number):
    open("/tmp/job-runs", "w").close()
    import time
    time.sleep(60)
sc.parallelize([0], 1).foreach(slow)
""",
)

_R = Language(
    line="cat('a line\\n')",
    error="stop('boom')",
    begun="Sys.slee",
    completed="Sys.sleep",
    # Without SparkR: Python's API by reticulate.
    job="cat(sum(unlist(sc$range(101L)$collect())))",
    result="5050",
    # An interrupt that meets IRkernel when it has just begun a cell may be lost.
    sleep="Sys.sleep(0.5); invisible(file.create('/tmp/cell-sleeps')); Sys.sleep(60)",
    interrupted="abort",
    slow="""
slow <- reticulate::py_run_string('
def slow(number):
    open("/tmp/job-runs", "w").close()
    import time
    time.sleep(60)
')$slow
sc$parallelize(list(0L), 1L)$foreach(slow)
""",
)

_SCALA = Language(
    line='println("a line")',
    error='sys.error("boom")',
    begun="sc.paralleli",
    completed="parallelize",
    job="sc.parallelize(1 to 100, 2).sum().toInt",
    result="5050",
    sleep='new java.io.File("/tmp/cell-sleeps").createNewFile(); Thread.sleep(60000)',
    interrupted="error",
    slow="""
sc.parallelize(1 to 600, 1).foreach { n =>
  if (n == 1) new java.io.File("/tmp/job-runs").createNewFile()
  Thread.sleep(100)  // Spark ends a cancelled task before its next element only
}
""",
)

LANGUAGES = {"python": _PYTHON, "R": _R, "scala": _SCALA}
#: They start without an engine, and say what they wait for when it is used; Toree does not.
LAZY = ("python", "R")


def samples_of(engine: str) -> dict[str, str]:
    """The languages that there is a sample for, and its name."""
    named = {language: f"spark_{language}_{engine}" for language in LANGUAGES}
    return {language: name for language, name in named.items() if name in samples()}
