"""Routines that stop wherever they ask something, so that many can be answered together."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

Ask = Callable[[Any], Any]
"""What a routine asks with: takes a question, returns the answer."""


class _OverError(Exception):
    """Raised inside a routine that nobody answers any more."""


class _End:
    """Said in the place of a question by a routine that has ended.

    Args:
        error: what it ended by; None if it simply returned.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Conversation:
    """A routine in a thread of its own that waits for the answer to each of its questions.

    Solvers that call a function back for one point at a time can so share batched passes: take the question of each
    of many, work out all answers at once, answer each. The order of the work inside the threads changes nothing, as
    long as the routines share nothing else.

    Args:
        routine: is called with `ask`; `ask(question)` returns the answer.
    """

    def __init__(self, routine: Callable[[Ask], object]) -> None:
        self._said: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._thread = Thread(target=self._run, args=(routine,), daemon=True)
        self._thread.start()

    def question(self) -> Any:
        """Waits for the next question; None when the routine has returned.

        Raises:
            BaseException: what the routine raised.
        """
        said = self._said.get()
        if not isinstance(said, _End):
            return said
        if said.error is not None:
            raise said.error
        return None

    def answer(self, value: object) -> None:
        """Answers the last question; the routine goes on."""
        self._answers.put(value)

    def end(self) -> None:
        """Ends the routine at its next question, or at the one it waits on."""
        self._answers.put(_End())
        self._thread.join()

    def _ask(self, question: Any) -> Any:
        self._said.put(question)
        answer = self._answers.get()
        if isinstance(answer, _End):
            raise _OverError
        return answer

    def _run(self, routine: Callable[[Ask], object]) -> None:
        try:
            routine(self._ask)
        except _OverError:
            self._said.put(_End())
        except BaseException as error:
            self._said.put(_End(error))
        else:
            self._said.put(_End())
