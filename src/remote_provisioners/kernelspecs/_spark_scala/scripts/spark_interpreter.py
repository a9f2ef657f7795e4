"""Spark's Scala interpreter, the one of spark-shell, in the JVM of this driver.

We use it through Py4J: each thread here has a thread of its own in the JVM. Scala 2.12 and 2.13
have different interpreters, which differ here in how they are made and how they complete code.
"""

from pyspark import SparkContext

#: The names that spark-shell defines. The session is created when code first uses it.
_GIVEN = """\
@transient lazy val spark = org.apache.spark.sql.SparkSession.builder().getOrCreate()
@transient lazy val sc = spark.sparkContext
import org.apache.spark.SparkContext._
import spark.implicits._
import spark.sql
import org.apache.spark.sql.functions._
"""


class Interpreter:
    """Call all methods from the same thread, except `interrupt`, `end_thread` and `stop`."""

    def __init__(self):
        SparkContext._ensure_initialized()
        self._jvm = SparkContext._jvm
        self.version = self._jvm.scala.util.Properties.versionNumberString()
        self._new = self.version.startswith("2.13.")
        self._streams = {}
        self._thread = None

    def open(self, paths, given):
        """Make the interpreter; define `spark` and `sc` if `given`.

        `paths`: the pipes for stdout and stderr.
        """
        java = self._jvm.java
        # Its messages belong into the log, not into a cell.
        _object(self._jvm.org.apache.spark.util, "Utils").initializeLogIfNecessary(False)
        for name, path in paths.items():
            stream = java.io.FileOutputStream(path)
            self._streams[name] = java.io.PrintStream(stream, True, "UTF-8")
        java.lang.System.setOut(self._streams["stdout"])
        java.lang.System.setErr(self._streams["stderr"])
        # Executors get the classes of cells from here; every session uses this property.
        temporary = java.lang.System.getProperty("java.io.tmpdir")
        classes = self._jvm.org.apache.spark.util.Utils.createTempDir(temporary, "repl").getPath()
        java.lang.System.setProperty("spark.repl.class.outputDir", classes)
        self._said = java.io.StringWriter()
        self._make(["-Yrepl-class-based", "-Yrepl-outdir", classes, *self._classpath()])
        if given:
            self.run(_GIVEN)

    def session(self):
        """Create the session now; `spark` will be this one. Raises Spark's errors."""
        self._interpreter.setContextClassLoader()  # Spark's threads have that too
        self._jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate()

    def run(self, code):
        """Run code. Returns Success, Error or Incomplete, and the interpreter's own output."""
        self._said.getBuffer().setLength(0)
        self._thread = self._jvm.java.lang.Thread.currentThread()
        self._jvm.java.lang.Thread.interrupted()  # clears an interrupt of the last cell
        console = _object(self._jvm.scala, "Console")
        console.setOutDirect(self._streams["stdout"])
        console.setErrDirect(self._streams["stderr"])
        self._interpreter.setContextClassLoader()
        result = self._interpreter.interpret(code).toString()
        return result, self._said.toString()

    def complete(self, code, cursor):
        """The position where the completed word begins, and the possible words."""
        found = self._completer.complete(code, cursor)
        candidates = found.candidates()
        words = [candidates.apply(number) for number in range(candidates.size())]
        names = [word.name() for word in words] if self._new else words
        begun = code[found.cursor() : cursor]
        return found.cursor(), sorted({n for n in names if n and n.startswith(begun)})

    def interrupt(self):
        """Cancel the jobs of this driver, and interrupt the running code."""
        for context in self._contexts():
            context.cancelAllJobs()
        if self._thread is not None:
            self._thread.interrupt()

    def end_thread(self):
        """End code that ignored an interrupt. Raises Py4JError with Java 20 and later."""
        self._thread.stop()

    def stop(self):
        """Remove everything from the engine."""
        for context in self._contexts():
            context.stop()

    def _contexts(self):
        """A list with this driver's SparkContext, whoever made it; empty until it is complete."""
        active = _object(self._jvm.org.apache.spark, "SparkContext").getActive()
        return [active.get()] if active.isDefined() else []

    def _make(self, options):
        scala, java = self._jvm.scala, self._jvm.java
        words = scala.collection.mutable.ListBuffer()
        for option in options:
            getattr(words, "$plus$eq")(option)
        settings = scala.tools.nsc.GenericRunnerSettings(None)
        settings.processArguments(words.toList(), True)
        writer = java.io.PrintWriter(self._said, True)
        nsc = scala.tools.nsc.interpreter
        if self._new:
            config = nsc.shell.ShellConfig.apply(settings)
            reporter = nsc.shell.ReplReporterImpl(config, settings, writer)
            self._interpreter = nsc.IMain(settings, reporter)
            self._interpreter.initializeCompiler()
            accumulator = nsc.shell.Accumulator()
            self._completer = nsc.shell.ReplCompletion(self._interpreter, accumulator)
        else:
            self._interpreter = nsc.IMain(settings, writer)
            self._interpreter.initializeSynchronous()
            self._completer = nsc.PresentationCompilerCompleter(self._interpreter)

    def _classpath(self):
        """Options for the class path: the JVM's, and the jars that the user gave spark-submit."""
        loader = self._jvm.java.lang.Thread.currentThread().getContextClassLoader()
        kind = self._jvm.java.lang.Class.forName("java.net.URLClassLoader")
        urls = list(loader.getURLs()) if kind.isInstance(loader) else []
        jars = [url.getPath() for url in urls if url.getProtocol() == "file"]
        return ["-usejavacp", *(["-classpath", ":".join(jars)] if jars else [])]


def _object(package, name):
    """A Scala object, including members that are private to Spark."""
    return getattr(getattr(package, name + "$"), "MODULE$")
