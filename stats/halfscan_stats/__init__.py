"""The statistics of a reader study: arrays and tables in, results out.

No database, no HTTP. Every function answers with a frozen result of `halfscan_stats.result`, which
carries n, method and interval and, where the answer is undefined, None and a reason.
"""

from halfscan_stats.result import Estimate, Interval, Reason, TestResult

__all__ = ["Estimate", "Interval", "Reason", "TestResult"]
