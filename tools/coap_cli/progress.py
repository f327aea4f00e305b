"""A progress bar on stderr for what takes long."""

import sys
import time


class Bar:
    """Context manager: a bar that appears when `update` is called later than `after_s`, in a terminal only.

    is_shown: whether to show it at all
    """

    def __init__(self, after_s=0.0, is_shown=True):
        self.after_s = after_s
        self.is_shown = is_shown and sys.stderr.isatty()
        self.begin_s = time.monotonic()
        self.done = 0  # bytes, as last told
        self.progress = self.task = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.progress:
            self.progress.stop()

    def update(self, done, length):
        """`done` bytes of `length` (None: not known) have gone or come."""
        self.done = done
        if not self.is_shown or time.monotonic() - self.begin_s < self.after_s:
            return
        if self.progress is None:
            self.start(done, length)
        self.progress.update(self.task, completed=done, total=length)

    def start(self, done, length):
        """Show the bar."""
        from rich import progress
        from rich.console import Console

        self.progress = progress.Progress(
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", completed=done, total=length)
        self.progress.start()
