# The tables of a study, computed by R from its exported CSV files.
#
#   Rscript statistics_oracle.R FOLDER OUTPUT
#
# Weighted kappa by vcd, unweighted kappa by psych, ICC(A,1) by psych, the paired tests by R itself.
# One line a figure: what it is of, and its values; NA where R has none.

suppressPackageStartupMessages({
  library(vcd)
  library(psych)
})

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
arms <- c("standard", "accelerated")
lines <- character()

say <- function(..., values) {
  values <- sprintf("%.17g", as.numeric(values))
  lines <<- c(lines, paste(c(paste(..., sep = "|"), values), collapse = ","))
}

counting <- function(name) {
  rows <- read.csv(file.path(folder, name), stringsAsFactors = FALSE)
  rows[rows$counted == 1 & rows$repeat_round == 0, ]
}

# Values of two readings of the same questions, merged by `keys`.
pairs_of <- function(rows, keys, first, second) {
  side <- function(one) {
    kept <- rows[rows$reader == one[1] & rows$arm == one[2], c(keys, "answer")]
    kept[!is.na(kept$answer), ]
  }
  merge(side(first), side(second), by = keys)
}

comparisons <- function(readers) {
  found <- lapply(arms, function(arm) {
    list(name = paste("inter_reader", arm, sep = "|"),
         first = c(readers[1], arm), second = c(readers[2], arm))
  })
  more <- lapply(readers, function(reader) {
    list(name = paste("inter_protocol", reader, sep = "|"),
         first = c(reader, arms[1]), second = c(reader, arms[2]))
  })
  c(found, more)
}

interval <- function(value, ase) {
  half <- qnorm(0.975) * ase
  c(value, value - half, min(value + half, 1))
}

weighted_kappa <- function(first, second, scale) {
  table <- table(factor(first, levels = scale), factor(second, levels = scale))
  if (sum(table) < 2 || min(sum(rowSums(table) > 0), sum(colSums(table) > 0)) < 2) {
    return(c(NA, NA, NA))
  }
  found <- Kappa(table, weights = "Equal-Spacing")
  interval(found$Weighted[["value"]], found$Weighted[["ASE"]])
}

plain_kappa <- function(first, second, scale) {
  if (length(unique(first)) < 2 || length(unique(second)) < 2) return(c(NA, NA, NA))
  table <- table(factor(first, levels = scale), factor(second, levels = scale))
  found <- suppressWarnings(cohen.kappa(table, n.obs = length(first)))
  interval(found$kappa, sqrt(found$var.kappa))
}

differences <- function(name, pairs) {
  d <- pairs$answer.y - pairs$answer.x
  same <- length(unique(d)) < 2
  say(name, values = c(
    length(d),
    mean(d),
    if (same || length(d) < 3) NA else shapiro.test(d)$p.value,
    if (same) NA else t.test(d)$p.value,
    if (all(d == 0)) 1 else suppressWarnings(wilcox.test(d, correct = FALSE, exact = FALSE))$p.value
  ))
}

# --- scores -------------------------------------------------------------------------------------

scores <- counting("scores.csv")
scores$answer <- scores$value
readers <- sort(unique(scores$reader))
for (place in unique(scores$sequence)) for (item in unique(scores$criterion)) {
  rows <- scores[scores$sequence == place & scores$criterion == item, ]
  for (one in comparisons(readers)) {
    pairs <- pairs_of(rows, "case", one$first, one$second)
    values <- weighted_kappa(pairs$answer.x, pairs$answer.y, 1:4)
    say("kappa", "scores", item, place, one$name, values = c(nrow(pairs), values))
  }
  for (reader in readers) {
    pairs <- pairs_of(rows, "case", c(reader, arms[1]), c(reader, arms[2]))
    differences(paste("difference", "image-quality", item, place, reader, sep = "|"), pairs)
  }
}

# --- findings -----------------------------------------------------------------------------------

findings <- counting("findings.csv")
findings$answer <- findings$value
for (item in unique(findings$finding)) {
  rows <- findings[findings$finding == item, ]
  for (one in comparisons(readers)) {
    pairs <- pairs_of(rows, c("case", "level"), one$first, one$second)
    values <- plain_kappa(pairs$answer.x, pairs$answer.y, 0:1)
    say("kappa", "findings", item, "", one$name, values = c(nrow(pairs), values))
  }
  for (reader in readers) {
    pairs <- pairs_of(rows, c("case", "level"), c(reader, arms[1]), c(reader, arms[2]))
    b <- sum(pairs$answer.y == 1 & pairs$answer.x == 0)
    c <- sum(pairs$answer.y == 0 & pairs$answer.x == 1)
    p <- if (b + c == 0) 1 else binom.test(b, b + c)$p.value
    d <- tapply(pairs$answer.y - pairs$answer.x, pairs$case, sum)
    k <- length(d)
    robust <- NA
    if (b + c == 0) robust <- 1
    else if (any(d != 0)) {
      chi2 <- (k - 1) / k * sum(d)^2 / sum(d^2)
      robust <- pchisq(chi2, 1, lower.tail = FALSE)
    }
    say("mcnemar", item, reader, values = base::c(nrow(pairs), b, c, p, robust))
  }
}

# --- signal-to-noise ratio ----------------------------------------------------------------------

measured <- counting("measurements.csv")
measured <- measured[measured$transferred == 0, ]
measured$answer <- measured$snr
for (place in unique(measured$sequence)) {
  for (item in unique(measured$region[measured$sequence == place & measured$region != "background"])) {
    rows <- measured[measured$sequence == place & measured$region == item, ]
    blocks <- lapply(arms, function(arm) {
      pairs <- pairs_of(rows, "case", c(readers[1], arm), c(readers[2], arm))
      as.matrix(pairs[, c("answer.x", "answer.y")])
    })
    blocks <- c(blocks, list(do.call(rbind, blocks)))
    names(blocks) <- c(arms, "pooled")
    for (scope in names(blocks)) {
      block <- blocks[[scope]]
      values <- c(NA, NA, NA)
      if (nrow(block) > 2) {
        found <- suppressWarnings(ICC(block, lmer = FALSE))$results
        values <- unlist(found[found$type == "ICC2", c("ICC", "lower bound", "upper bound")])
      }
      say("icc", item, place, scope, values = c(nrow(block), values))
    }
    for (reader in readers) {
      pairs <- pairs_of(rows, "case", c(reader, arms[1]), c(reader, arms[2]))
      differences(paste("difference", "snr", item, place, reader, sep = "|"), pairs)
    }
  }
}

writeLines(lines, arguments[2])
