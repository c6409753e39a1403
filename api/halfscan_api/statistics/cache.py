"""Nothing is computed twice: answers by study, revision, table and options, in this process.

An answer is a function of its key: whatever changes what statistics see moves the revision in the
same transaction. So nothing is ever thrown away because it is wrong, only because it is old.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

MOST = 512


class Cache(Generic[V]):
    """The newest answers; threads that ask for the same one wait for one computation.

    Parameters
    ----------
    most : int
        Answers that are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._working: dict[Hashable, threading.Lock] = {}
        self.computed = 0

    def get(self, key: Hashable, compute: Callable[[], V]) -> V:
        """Give the answer of a key, computed at most once while it is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            work = self._working.setdefault(key, threading.Lock())
        with work:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = compute()
                self._keep(key, value)
            finally:
                with self._lock:
                    self._working.pop(key, None)
        return value

    def _keep(self, key: Hashable, value: V) -> None:
        with self._lock:
            self.computed += 1
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)


class Seen:
    """What was noted already, the newest of it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._keys: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether it was noted."""
        with self._lock:
            return key in self._keys

    def add(self, key: Hashable) -> None:
        """Note it."""
        with self._lock:
            self._keys[key] = None
            while len(self._keys) > self._most:
                self._keys.popitem(last=False)
