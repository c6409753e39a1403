# Cumulative link mixed models by R's package ordinal, for tests/test_stats_grading.py.
#
#   Rscript grading_oracle.R FILE...
#
# Each file is a CSV with the columns score, test, sequence, patient, reader. One line a file: log
# likelihood, thresholds, effects, their standard errors, standard deviations of the random effects.

suppressPackageStartupMessages(library(ordinal))

for (file in commandArgs(trailingOnly = TRUE)) {
  rows <- read.csv(file)
  rows$score <- factor(rows$score, ordered = TRUE)
  rows$patient <- factor(rows$patient)
  rows$reader <- factor(rows$reader)
  formula <- "score ~ test"
  if (length(unique(rows$sequence)) > 1) formula <- paste(formula, "+ sequence")
  formula <- paste(formula, "+ (1 | patient)")
  # clmm takes no grouping of two.
  if (nlevels(rows$reader) > 2) formula <- paste(formula, "+ (1 | reader)")
  fit <- suppressWarnings(
    clmm(as.formula(formula), data = rows, control = clmm.control(gradTol = 1e-8)))
  errors <- summary(fit)$coefficients[names(fit$beta), 2]
  spreads <- sqrt(unlist(VarCorr(fit)))
  cat(sprintf("%.9g", c(logLik(fit), fit$alpha, fit$beta, errors, spreads)), "\n")
}
