# Cumulative link mixed models by R's package ordinal, for tests/test_stats_grading.py.
#
#   Rscript grading_oracle.R FILE...
#
# Each file is a CSV with the columns score, test, sequence, patient, reader, readers; the last one
# is "random" or "fixed". One line a file: log likelihood, thresholds, effects, their standard
# errors, standard deviations of the random effects, and the likelihood ratio of `test`.
#
# clmm stops a few millionths from the top (its own gradient is about 1e-4 there). So Newton's steps
# follow, on ordinal's own function. useMatrix: its quicker code for a single random term ends the
# search of the mode early, and its likelihood is then 1e-6 too low.

suppressPackageStartupMessages({
  library(ordinal)
  library(numDeriv)
})

formula_of <- function(rows, tested) {
  terms <- if (tested) "test" else character()
  if (length(unique(rows$sequence)) > 1) terms <- c(terms, "sequence")
  several <- nlevels(rows$reader) > 1
  if (several && rows$readers[1] == "fixed") terms <- c(terms, "reader")
  terms <- c(terms, "(1 | patient)")
  if (several && rows$readers[1] == "random") terms <- c(terms, "(1 | reader)")
  as.formula(paste("score ~", paste(terms, collapse = " + ")))
}

top_of <- function(rows, tested) {
  formula <- formula_of(rows, tested)
  # Far below 1e-6 the search of the mode runs into rounding, and the likelihood becomes rough.
  control <- clmm.control(gradTol = 1e-6, useMatrix = TRUE)
  fit <- suppressWarnings(clmm(formula, data = rows, control = control))
  rho <- suppressWarnings(clmm(formula, data = rows, control = control, doFit = FALSE))
  fixed <- c(fit$alpha, fit$beta)
  spread <- sqrt(unlist(VarCorr(fit)))
  free <- c(rep(TRUE, length(fixed)), spread > 1e-3)  # a spread of 0 is the end of the range
  whole <- c(fixed, ifelse(spread > 1e-3, spread, 0))
  objective <- function(some) {
    point <- whole
    point[free] <- some
    ordinal:::getNLA(rho, point)
  }
  point <- whole[free]
  # numDeriv steps by a tenth of each parameter: about 1 that is 0.1, whatever the parameter is.
  around <- function(aside) objective(point + aside - 1)
  ones <- rep(1, length(point))
  for (turn in 1:3) point <- point - solve(hessian(around, ones), grad(around, ones))
  whole[free] <- point
  list(
    height = -objective(point), fixed = whole[seq_along(fixed)], n_alpha = length(fit$alpha),
    se = sqrt(diag(solve(hessian(around, ones))))[seq_along(fixed)],
    spread = whole[-seq_along(fixed)]
  )
}

for (file in commandArgs(trailingOnly = TRUE)) {
  rows <- read.csv(file)
  rows$score <- factor(rows$score, ordered = TRUE)
  rows$patient <- factor(rows$patient)
  rows$reader <- factor(rows$reader)
  full <- top_of(rows, TRUE)
  ratio <- 2 * (full$height - top_of(rows, FALSE)$height)
  errors <- full$se[-seq_len(full$n_alpha)]
  cat(sprintf("%.12g", c(full$height, full$fixed, errors, full$spread, ratio)), "\n")
}
