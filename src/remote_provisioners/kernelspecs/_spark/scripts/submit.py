"""Build the command line of spark-submit from the kernelspec's environment.

Standard library only, Python 3.8 or later. Words are split as a shell splits them and nothing
else: no expansion, no substitution, no shell.
"""

import os
import shlex
import shutil
import signal
import sys

#: Files in which an installation of Spark may set what we would miss here.
_ENV_SCRIPT = "spark-env.sh"
#: As a kernelspec may have it, where no start request has filled it in.
_UNSET = ("${KERNEL_EXTRA_SPARK_OPTS}", "$KERNEL_EXTRA_SPARK_OPTS")


class SubmitError(Exception):
    """The kernel cannot be submitted. The message says what to change."""


def split(name, environ):
    """Split a variable into words. Raises SubmitError."""
    text = environ.get(name, "")
    try:
        return [word for word in shlex.split(text) if word not in _UNSET]
    except ValueError as error:
        said = "{} cannot be split into words ({}): {}".format(name, error, text)
        raise SubmitError(said) from None


def command(application, arguments, environ):
    """argv of spark-submit: options from variables, then the application with its options.

    Raises SubmitError for what is missing on this host.
    """
    program, words = _spark_submit(environ), options(environ)
    _check_java(environ)
    if master(words) == "yarn":
        _check_hadoop(environ)
    return [program, *words, *application, *split("LAUNCH_OPTS", environ), *arguments]


def options(environ):
    """The options of spark-submit. Raises SubmitError."""
    given = [*split("SPARK_OPTS", environ), *split("KERNEL_EXTRA_SPARK_OPTS", environ)]
    if master(given) != "yarn":
        return given
    cluster = [*_yarn_tags(environ), *_yarn_environment(environ)]
    return [*cluster, *given, *_yarn_request(environ)]


def master(words):
    """The master in these options of spark-submit, or ""."""
    found = ""
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        if word == "--master":
            found = following
        elif word.startswith("--master="):
            found = word.partition("=")[2]
        elif word in ("--conf", "-c") and following.startswith("spark.master="):
            found = following.partition("=")[2]
    return found


def environment(environ):
    """The environment for spark-submit."""
    # Otherwise every process of Spark prints a message about this variable.
    return {name: value for name, value in environ.items() if name != "SPARK_YARN_USER_ENV"}


def ignore_interrupts():
    """Make processes that start from now on ignore SIGINT.

    An interrupt goes to the whole process group and would end the JVM; the kernel in it
    restores its own handler.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def replace_by(application, arguments):
    """Replace this process with spark-submit, or exit with a message."""
    try:
        argv = command(application, arguments, os.environ)
    except SubmitError as error:
        sys.exit(str(error))
    ignore_interrupts()
    os.execve(argv[0], argv, environment(os.environ))


def _spark_submit(environ):
    home = environ.get("SPARK_HOME", "")
    if not home:
        raise SubmitError(
            "SPARK_HOME is not set: name the directory of Apache Spark on this host in the env of "
            "the kernelspec"
        )
    program = os.path.join(home, "bin", "spark-submit")
    if not os.path.isdir(home):
        raise SubmitError("SPARK_HOME is {}: no such directory on this host".format(home))
    if not os.access(program, os.X_OK):
        raise SubmitError(
            "SPARK_HOME is {}: there is no executable bin/spark-submit in it".format(home)
        )
    return program


def _sets(environ, variable):
    """Whether Spark's configuration on this host may set the variable."""
    directory = environ.get("SPARK_CONF_DIR") or os.path.join(environ["SPARK_HOME"], "conf")
    try:
        with open(os.path.join(directory, _ENV_SCRIPT), errors="replace") as file:
            return variable in file.read()
    except OSError:
        return False


def _check_java(environ):
    if _sets(environ, "JAVA_HOME"):
        return
    home = environ.get("JAVA_HOME", "")
    if home:
        if not os.access(os.path.join(home, "bin", "java"), os.X_OK):
            raise SubmitError("no Java: JAVA_HOME is {}, which has no bin/java".format(home))
    elif shutil.which("java", path=environ.get("PATH", os.defpath)) is None:
        raise SubmitError(
            "no Java: java is not on PATH ({}) and JAVA_HOME is not set".format(
                environ.get("PATH", "")
            )
        )


def _check_hadoop(environ):
    if _sets(environ, "HADOOP_CONF_DIR") or _sets(environ, "YARN_CONF_DIR"):
        return
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        directory = environ.get(name, "")
        if directory:
            if not os.path.isfile(os.path.join(directory, "yarn-site.xml")):
                raise SubmitError("{} is {}: there is no yarn-site.xml".format(name, directory))
            return
    raise SubmitError(
        "neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set: --master yarn needs the directory of "
        "yarn-site.xml on this host, in the env of the kernelspec"
    )


def _yarn_tags(environ):
    """The tag with which the kernel finds its application, because no other name is unique."""
    kernel_id = environ.get("KERNEL_ID", "")
    tags = ["kernel-" + kernel_id.lower()] if kernel_id else []
    tags += [environ["RP_LAUNCH_TAG"]] if environ.get("RP_LAUNCH_TAG") else []
    return ["--conf", "spark.yarn.tags=" + ",".join(tags)] if tags else []


def _yarn_request(environ):
    """A start request's options for YARN, which override the kernelspec's."""
    wanted = (("--queue", "KERNEL_QUEUE"), ("--proxy-user", "RP_PROXY_USER"))
    return [w for option, name in wanted if environ.get(name) for w in (option, environ[name])]


def _yarn_environment(environ):
    """SPARK_YARN_USER_ENV (``NAME=value,NAME=value``), which Spark itself no longer reads."""
    options = []
    for pair in environ.get("SPARK_YARN_USER_ENV", "").split(","):
        name, equals, value = pair.strip().partition("=")
        if not name:
            continue
        if not equals:
            raise SubmitError("SPARK_YARN_USER_ENV: {!r} is not NAME=value".format(pair))
        for kind in ("spark.yarn.appMasterEnv", "spark.executorEnv"):
            options += ["--conf", "{}.{}={}".format(kind, name, value)]
    return options
