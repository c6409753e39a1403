import os

# NumPy's own threads, which wait awake for work, would take the cores from PyTorch's: a step took
# twice as long. To be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
