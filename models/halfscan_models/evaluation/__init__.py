"""Measuring the network: against classical denoisers, on simulated patients, on the clock.

`run.run_evaluation` does all of it in one run and gives an `Evaluation`: the table of measures
with their bars, the tables behind it, and the pictures. ``halfscan evaluate`` is its command.
Nothing is imported here: the process whose memory is measured loads the network and nothing else.
"""
