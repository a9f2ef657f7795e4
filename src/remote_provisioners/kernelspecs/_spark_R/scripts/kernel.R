# IRkernel, with `spark` and `sc` that are made when they are used.
# Arguments: the connection file, and the directory of this file where Python started it.
local({
    arguments <- commandArgs(trailingOnly = TRUE)
    sparkr <- file.path(Sys.getenv("SPARK_HOME"), "R", "lib")
    provide <- function(name, value) {
        eval(substitute(delayedAssign(name, value, assign.env = globalenv())))
    }
    if (requireNamespace("SparkR", lib.loc = sparkr, quietly = TRUE)) {
        library(SparkR, lib.loc = sparkr)
        provide("spark", SparkR::sparkR.session())
        provide("sc", SparkR:::callJMethod(get("spark", globalenv()), "sparkContext"))
        # When the kernel ends: nothing of it is left in the engine.
        reg.finalizer(globalenv(), function(e) SparkR::sparkR.session.stop(), onexit = TRUE)
    } else if (requireNamespace("reticulate", quietly = TRUE)) {
        made <- function() {
            driver <- reticulate::import_from_path("session_for_r", arguments[2])
            reg.finalizer(globalenv(), function(e) driver$stop(), onexit = TRUE)
            waiting <- driver$notices()
            while (!is.null(words <- reticulate::iter_next(waiting))) message(words)
            driver$session()
        }
        provide("spark", made())
        provide("sc", get("spark", globalenv())$sparkContext)
        if (nzchar(Sys.getenv("RP_EAGER_SESSION"))) force(get("spark", globalenv()))
    } else {
        missing <- paste0(
            "no SparkR in ", sparkr, ", where Apache Spark's own distribution has it, and no ",
            "reticulate, which leads to Spark's Python API (on Debian: r-cran-reticulate)"
        )
        provide("spark", stop(missing, call. = FALSE))
        provide("sc", stop(missing, call. = FALSE))
    }
})
IRkernel::main(commandArgs(trailingOnly = TRUE)[1])
