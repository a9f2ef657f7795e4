# IRkernel, with `spark` and `sc`, which are created when they are first used.
# Arguments: the connection file, and the directory of this file where Python started it.
local({
    arguments <- commandArgs(trailingOnly = TRUE)
    sparkr <- file.path(Sys.getenv("SPARK_HOME"), "R", "lib")
    # Set in a YARN container, where the driver must create its session at once, in Python.
    eager <- nzchar(Sys.getenv("RP_EAGER_SESSION"))
    provide <- function(name, value) {
        eval(substitute(delayedAssign(name, value, assign.env = globalenv())))
    }
    if (requireNamespace("SparkR", lib.loc = sparkr, quietly = TRUE)) {
        library(SparkR, lib.loc = sparkr)
        provide("spark", SparkR::sparkR.session())
        provide("sc", SparkR:::callJMethod(get("spark", globalenv()), "sparkContext"))
        # Remove everything from the engine when the kernel ends.
        reg.finalizer(globalenv(), function(e) SparkR::sparkR.session.stop(), onexit = TRUE)
    } else if (!eager && requireNamespace("sparklyr", quietly = TRUE)) {
        # sparklyr runs a spark-submit of its own: pass it our options in its own form.
        words <- strsplit(Sys.getenv("RP_SPARK_OPTIONS"), "\n", fixed = TRUE)[[1]]
        at <- which(startsWith(words, "--") & !words %in% c("--master", "--deploy-mode"))
        options <- split(words[at + 1], sub("^--", "sparklyr.shell.", words[at]))
        connect <- function() sparklyr::spark_connect(
            master = words[match("--master", words) + 1],
            spark_home = Sys.getenv("SPARK_HOME"),
            app_name = Sys.getenv("KERNEL_ID"),
            config = utils::modifyList(sparklyr::spark_config(), options)
        )
        provide("sc", connect())
        provide("spark", get("sc", globalenv()))
        reg.finalizer(globalenv(), function(e) sparklyr::spark_disconnect_all(), onexit = TRUE)
    } else if (requireNamespace("reticulate", quietly = TRUE)) {
        options(warning.length = 8170L)  # the default cuts Spark's errors before the reason
        made <- function() {
            driver <- reticulate::import_from_path("session_for_r", arguments[2])
            reg.finalizer(globalenv(), function(e) driver$stop(), onexit = TRUE)
            waiting <- driver$notices()
            while (!is.null(words <- reticulate::iter_next(waiting))) message(words)
            driver$session()
        }
        provide("spark", made())
        provide("sc", get("spark", globalenv())$sparkContext)
        if (eager) force(get("spark", globalenv()))
    } else {
        missing <- paste0(
            "no SparkR in ", sparkr, ", where Apache Spark's own distribution has it, no sparklyr ",
            "and no reticulate, which leads to Spark's Python API (on Debian: r-cran-reticulate)"
        )
        provide("spark", stop(missing, call. = FALSE))
        provide("sc", stop(missing, call. = FALSE))
    }
})
IRkernel::main(commandArgs(trailingOnly = TRUE)[1])
