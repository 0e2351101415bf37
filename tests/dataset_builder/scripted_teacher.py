"""A teacher whose answers are a function, and questions to put to it."""

import asyncio
import time

from xrec_dataset_builder.teacher import Answer, Rejected, Request

QUICK = {"backoff": 0.001, "longest_pause": 0.05, "breaker_wait": 0.01}
"""Options under which no test waits long."""


def request_of(text, key=None, **changes):
    given = {"kind": "explanation", "key": (key or text,), "messages": (("user", text),), "schema": "", "teacher": "t"}
    given |= {"model": "m", "prompt_version": "1", "temperature": 0.0, "max_tokens": 50, "seed": 0}
    return Request(**given | changes)


def requests_of(count):
    return [request_of(str(number)) for number in range(count)]


class Teacher:
    """Answers by a function of the request and its number, which may raise or wait."""

    name = "t"

    def __init__(self, reply=lambda request, number: f"answer {request.messages[-1][1]}", delay=0.0):
        self.reply, self.delay = reply, delay
        self.asked, self.times = [], []
        self.in_flight = self.most_in_flight = self.closed = 0

    async def answer(self, request):
        number = len(self.asked)
        self.asked.append(request.messages[-1][1])
        self.times.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
            reply = self.reply(request, number)
            return reply if isinstance(reply, Answer) else Answer(reply, "stop", 10, 2)
        finally:
            self.in_flight -= 1

    async def close(self):
        self.closed += 1


def text_of(request, answer):
    return answer.text


def longer_than(length):
    def accept(request, answer):
        if len(answer.text) <= length:
            raise Rejected(f"{len(answer.text)} characters")
        return answer.text

    return accept
