"""A teacher behind any endpoint that speaks OpenAI's chat protocol, through OpenAI's own client."""

import json
import logging
import math
import os
import re
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import DataError
from .teacher import Answer, Request, TeacherBusy, TeacherError

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key; it is read from nowhere else."""
LARGEST_BODY = 8 * 2**20
"""Bytes of an answer; no answer of a teacher comes near."""
CONNECT_SECONDS = 20.0
KEEP_SECONDS = 30.0
"""For which a connection is kept for the next question."""
QUIET_SECONDS = 600.0
"""Without a byte of an answer; `AskOptions.timeout` bounds the whole try, and is shorter by default."""
PASSING = {408, 409, 425, 429}
"""Statuses below 500 after which the same request may succeed."""
HOPELESS = {401: "the key is not accepted", 402: "no credit is left", 404: "there is no such model or address"}
"""Statuses that every request would meet."""
OPTIONAL = {"response_format": None, "seed": None, "max_tokens": "max_completion_tokens"}
"""Fields that not every endpoint knows, and what stands in for them."""
CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class OpenAITeacher:
    """Asks an endpoint by HTTP, with structured output where it has it.

    An endpoint that refuses a request for one of the fields in `optional` is asked without it from then on. Who asks for more
    than a text overrides `fields` and `read`.

    Args:
        base_url: of the endpoint, as `http://localhost:8000/v1`; OpenAI's own where None.
        concurrency: most connections held open; as many as questions are in flight.

    Attributes:
        optional: fields that not every endpoint knows, and what stands in for them.

    Raises:
        DataError: the client is not installed, the key is missing or malformed, or the address is none.
    """

    name = "openai"
    optional: Mapping[str, str | None] = OPTIONAL

    def __init__(self, base_url: str | None = None, concurrency: int = 8) -> None:
        try:
            import aiohttp  # noqa: F401 (what the client sends by: half the work of its own default, for many connections)
            import openai
        except ImportError as error:
            raise DataError("expected OpenAI's client and aiohttp, found not both; pip install 'xrec[openai]'") from error
        self._key = _key(required=base_url is None)
        self._base_url = "https://api.openai.com/v1" if base_url is None else _address(base_url)
        self._concurrency = concurrency
        self._client: openai.AsyncOpenAI | None = None
        self._known: set[str] = set()
        self._unknown: set[str] = set()

    async def answer(self, request: Request) -> Answer:
        """Ask one question; see `Teacher`."""
        import openai

        unknown = set(self._unknown)
        while True:
            fields = self.fields(request, unknown)
            try:
                body = await self._post(fields)
            except openai.APIStatusError as error:
                refused = self._refused_field(error, fields)
                if refused is None:
                    raise _failure(error.status_code, error.code, error.response.headers) from None
                unknown.add(refused)
                continue
            answer = self.read(body)
            self._known |= fields.keys() & self.optional.keys()
            for field in sorted(unknown - self._unknown):
                logger.warning("the endpoint does not know %s; asking without it", field)
            self._unknown |= unknown  # only now: a request without them has been answered
            return answer

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def fields(self, request: Request, unknown: Collection[str]) -> dict[str, Any]:
        """What is sent.

        Args:
            request: the question.
            unknown: names in `optional` that are to be left out.
        """
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        if request.schema:
            schema = {"name": request.kind, "schema": json.loads(request.schema), "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        for field in fields.keys() & set(unknown):
            value = fields.pop(field)
            if (other := self.optional[field]) is not None:
                fields[other] = value
        return fields

    def read(self, body: bytes) -> Answer:
        """What the body of a chat completion says.

        Raises:
            TeacherBusy: it is none.
            TeacherError: the model refused.
            DataError: it is an error that every request would meet.
        """
        return _answer(body)

    def _refused_field(self, error: "openai.APIStatusError", fields: dict[str, Any]) -> str | None:
        """The optional field that a refusal names; one that was taken before is not the reason, whatever the text says."""
        if error.status_code not in (400, 422):
            return None
        candidates = [field for field in self.optional if field in fields and field not in self._known]
        if error.param in candidates:
            return error.param
        try:
            text = error.response.text
        except UnicodeError:
            return None
        return next((field for field in candidates if field in text), None)

    async def _post(self, fields: dict[str, Any]) -> bytes:
        """The body of the answer, at most `LARGEST_BODY` of it.

        Raises:
            openai.APIStatusError: the endpoint answers with an error.
            TeacherBusy: there is no whole answer.
            TeacherError: the answer is too large.
        """
        import aiohttp
        import httpx2
        import openai

        if self._client is None:
            self._client = self._open()
        create = self._client.chat.completions.with_streaming_response.create
        body = bytearray()
        try:
            # As `extra_body` the messages are not checked against the client's types once more, a third of its work.
            async with create(model=fields["model"], messages=(), extra_body=fields) as response:
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > LARGEST_BODY:
                        raise TeacherError(f"an answer of more than {LARGEST_BODY} bytes")
        except openai.APIConnectionError as error:
            # Its own kind says too little: a refused connection comes as a timeout.
            cause = _cause(error)
            found = "no answer in time" if isinstance(cause, TimeoutError) else f"no connection ({type(cause).__name__})"
            raise TeacherBusy(found) from None
        except (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError) as error:
            raise TeacherBusy(f"a broken answer ({type(_cause(error)).__name__})") from None
        return bytes(body)

    def _open(self) -> "openai.AsyncOpenAI":
        import httpx2
        import openai

        limits = httpx2.Limits(max_connections=self._concurrency, keepalive_expiry=KEEP_SECONDS)
        timeout = httpx2.Timeout(QUIET_SECONDS, connect=CONNECT_SECONDS)
        # What is sent goes to the address that was given, and to no other.
        http_client = openai.DefaultAioHttpClient(limits=limits, timeout=timeout, follow_redirects=False)
        return openai.AsyncOpenAI(
            api_key=self._key, base_url=self._base_url, max_retries=0, timeout=timeout, http_client=http_client
        )


def _key(required: bool) -> str:
    """The key in the environment; a stand-in for endpoints that need none.

    Raises:
        DataError: there is none, or it cannot be a key; what it is is not said.
    """
    key = os.environ.get(KEY, "").strip()
    if not key and required:
        raise DataError(
            f"expected a key in the environment variable {KEY}, found none; set it, or give the base URL of another"
        )
    if not key:
        return "none"
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise DataError(f"expected a key in the environment variable {KEY}, found spaces or other signs in it; set it again")
    return key


def _address(url: str) -> str:
    """The URL of an endpoint, which is not said where it is none: people paste keys into the wrong place.

    Raises:
        DataError: it is none.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # a port or an IPv6 address that is none
        pass
    raise DataError("expected a base URL such as http://localhost:8000/v1, found another text; give the endpoint's")


def _cause(error: BaseException) -> BaseException:
    """What was first to go wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _failure(status: int, code: object, headers: Any) -> Exception:
    """The error for a status; it names the endpoint's code for it, but not its text, which may repeat the question."""
    found = f"HTTP {status}"
    if isinstance(code, str) and CODE.fullmatch(code):
        found += f" ({code})"
    if status in HOPELESS:
        return DataError(f"expected answers of the endpoint, found {found}: {HOPELESS[status]}; mend that and run this again")
    if status == 429 and code == "insufficient_quota":
        return DataError(f"expected answers of the endpoint, found {found}: no credit is left; mend that and run this again")
    if 300 <= status < 400:
        return DataError(
            f"expected answers of the endpoint, found {found}: it points elsewhere; give the address it points to"
        )
    if status in PASSING or status >= 500:
        wait = _retry_after(headers)
        return TeacherBusy(found, wait, alive=status == 429 or wait is not None)
    return TeacherError(found)


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait, of a header that gives them in milliseconds, in seconds or as a date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def _answer(body: bytes) -> Answer:
    """Read a chat completion.

    Raises:
        TeacherBusy: it is none.
        TeacherError: the model refused.
        DataError: it is an error that every request would meet.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise TeacherBusy("an answer that is no JSON") from None
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int) and 400 <= error["code"] < 600:
        raise _failure(error["code"], error.get("type"), {})  # some relays answer 200 and put the status inside
    try:
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message["content"], message.get("refusal")
    except (LookupError, TypeError, AttributeError):
        raise TeacherBusy("an answer that is no chat completion") from None
    if isinstance(refusal, str) and refusal:
        raise TeacherError("the model refused")
    if not isinstance(text, str | None):
        raise TeacherBusy("an answer that is no text")
    reason = choice.get("finish_reason")
    usage = found.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    tokens = (_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(text or "", reason[:64] if isinstance(reason, str) else "", *tokens)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0
