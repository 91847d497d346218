"""Steps of a stream side by side: each in a thread of its own, a few items ahead of the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(source: Iterator[T], depth: int = 1) -> Generator[T, None, None]:
    """Run an iterator in a thread, at most ``depth`` items ahead of the consumer.

    Order is kept; an error of the source is raised at the place where its item would have come. Closing the generator
    stops the thread after the item that it is working on.
    """
    steps: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    worker = threading.Thread(target=_work, args=(source, steps, stop), daemon=True)
    worker.start()
    try:
        while (step := steps.get()) is not _END:
            if isinstance(step, _Failure):
                raise step.error
            yield step
    finally:
        stop.set()
        worker.join()


def _work(source: Iterator[Any], steps: queue.Queue[Any], stop: threading.Event) -> None:
    try:
        for value in source:
            if not _put(steps, value, stop):
                return
        _put(steps, _END, stop)
    except BaseException as error:  # it is raised again on the consumer's side
        _put(steps, _Failure(error), stop)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _put(steps: queue.Queue[Any], step: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            steps.put(step, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
