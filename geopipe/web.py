"""Requests to services on the web: paced, patient, and with failures in words."""

import email.utils
import html
import json
import logging
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geopipe import __version__
from geopipe.errors import ServiceError

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

USER_AGENT = f"geopipe/{__version__}"
"""Services ask their clients to say who they are."""
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Answers that may be another one later."""
_MOST_BYTES = 256 << 20
_CHUNK = 1 << 16
_QUOTE = 200
"""Characters of an answer that a message quotes."""

_SECRET = re.compile(
    r"([?&][^=&\s]*(?:sig|signature|token|key|secret|credential|password|auth)[^=&\s]*=)[^&\s]+",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(://)[^/@\s]+@")


def redacted(text: str) -> str:
    """`text` without the keys and signatures in the addresses it may name."""
    return _LOGIN.sub(r"\1…@", _SECRET.sub(r"\1…", text))


@dataclass(frozen=True, slots=True)
class Response:
    """What a service answered."""

    address: str
    """As a message may show it."""
    status: int
    type: str
    """Media type in lower case, without parameters; "" when the service names none."""
    content: bytes = field(repr=False)
    range_of: str = ""
    """Its ``Content-Range``, where it is a part."""

    @property
    def words(self) -> str:
        """What it says of itself, where it is an error: the text of XML, HTML or JSON."""
        text = self.content[:20_000].decode("utf-8", "replace").strip()
        if text.startswith("{"):
            text = _json_words(text)
        elif text.startswith("<"):
            text = _markup_words(text)
        elif not self.type.startswith("text/"):
            text = ""
        text = " ".join(redacted(text).split())
        return text if len(text) <= _QUOTE else text[: _QUOTE - 3] + "..."

    @property
    def kind(self) -> str:
        """``HTML``, ``XML``, ``JSON``, or its media type, by its first bytes."""
        head = self.content[:300].lstrip().lower()
        if head.startswith((b"<!doctype html", b"<html")):
            return "HTML"
        for name, start in (("XML", b"<"), ("JSON", b"{")):
            if head.startswith(start):
                return name
        return self.type or "something else"


class PassingError(ServiceError):
    """An answer that is no good, while another try may bring a good one."""


@dataclass
class Client:
    """Asks one service, one request after the other."""

    rate: float = 10.0
    """Requests per second at most."""
    tries: int = 6
    """For each request."""
    pause_s: float = 1.0
    """Before the second try; twice as long before each further one."""
    patience_s: float = 300.0
    """The longest that one request waits between its tries, all in all."""
    timeout_s: float = 60.0
    """For the connection, and between two pieces of an answer."""
    sleep: Callable[[float], None] = time.sleep
    _next: float = field(default=0.0, init=False, repr=False)

    def get(
        self,
        address: str,
        params: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        absent: Collection[int] = (),
        check: Callable[[Response], None] | None = None,
    ) -> Response:
        """The answer to a GET request.

        Args:
            address: ``http://`` or ``https://``.
            params: Joined to its query.
            headers: Further ones.
            absent: Statuses that are answers as well, such as 404 for a tile that is not there.
            check: Looks at the answer; where it raises PassingError, the request is tried again.

        Raises:
            ServiceError: No answer, or none of use, after all tries; with the cause in words.
        """
        return self._ask("GET", address, absent, check, params=params, headers=headers)

    def post(self, address: str, body: Mapping[str, Any]) -> Response:
        """The answer to a POST request with `body` as JSON; raises as `get`."""
        return self._ask("POST", address, (), None, json=body)

    @cached_property
    def _session(self) -> "requests.Session":
        import requests

        session = requests.Session()
        session.headers["User-Agent"] = USER_AGENT
        return session

    def _ask(
        self,
        method: str,
        address: str,
        absent: Collection[int],
        check: Callable[[Response], None] | None,
        **request: Any,
    ) -> Response:
        if urlsplit(address).scheme.lower() not in ("http", "https"):
            raise ServiceError(
                f"{redacted(address)} is no address of a service", "give https://..."
            )
        waited = 0.0
        for attempt in range(1, self.tries + 1):
            asked_to_wait: float | None = None
            try:
                answer, asked_to_wait = self._send(method, address, **request)
                if answer.status in absent or answer.status < 300:
                    if check:
                        check(answer)
                    return answer
                error = _refusal(answer)
                if answer.status not in _PASSING:
                    raise error
            except PassingError as e:
                error = e
            pause = max(self.pause_s * 2 ** (attempt - 1), asked_to_wait or 0.0)
            if attempt == self.tries or waited + pause > self.patience_s:
                break
            log.info("%s; trying again in %.3g s", error.message, pause)
            self.sleep(pause)
            waited += pause
        stated = f"; it asks to wait {asked_to_wait:.0f} s" if asked_to_wait else ""
        tried = f" (tried {attempt} times)" if attempt > 1 else ""
        raise ServiceError(f"{error.message}{stated}{tried}", error.hint) from error

    def _send(self, method: str, address: str, **request: Any) -> tuple[Response, float | None]:
        """The answer and how long the service asks to wait; PassingError without an answer."""
        from requests import exceptions
        from urllib3.exceptions import HTTPError

        now = time.monotonic()
        if self._next > now:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate
        shown = redacted(address)
        try:
            with self._session.request(
                method, address, stream=True, timeout=self.timeout_s, **request
            ) as response:
                shown = redacted(response.url)
                content = self._body(response, shown)
                kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
                wait = _seconds(response.headers.get("Retry-After"))
                part = response.headers.get("Content-Range", "")
                return Response(shown, response.status_code, kind, content, part), wait
        except exceptions.SSLError as e:
            raise ServiceError(
                f"no trusted connection to {urlsplit(address).netloc}: {_cause(e)}",
                "check the address and this machine's clock; where a proxy has its own "
                "certificate, name it in REQUESTS_CA_BUNDLE",
            ) from e
        except exceptions.Timeout as e:
            raise PassingError(f"{shown} did not answer within {self.timeout_s:g} s", _LATER) from e
        except (exceptions.ConnectionError, exceptions.ChunkedEncodingError, HTTPError) as e:
            raise PassingError(f"no answer from {shown}: {_cause(e)}", _LATER) from e
        except (exceptions.RequestException, ValueError) as e:
            raise ServiceError(f"cannot ask {shown}: {_cause(e)}", "check the address") from e

    def _body(self, response: "requests.Response", shown: str) -> bytes:
        chunks, size, start = [], 0, time.monotonic()
        for chunk in response.iter_content(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_BYTES:
                raise ServiceError(f"{shown} answers more than {_MOST_BYTES >> 20} MB")
            if time.monotonic() - start > 5 * self.timeout_s:
                raise PassingError(
                    f"{shown} sent {size} bytes in {5 * self.timeout_s:g} s and is not done", _LATER
                )
        return b"".join(chunks)


_LATER = "is the service up? run the same command again later to continue"
_REFUSALS = {
    400: ("does not understand the request", "check the address and the layer"),
    401: ("asks for credentials", "give an address with a valid key"),
    403: ("refuses", "it needs a key, or does not serve this machine; see its terms of use"),
    404: ("has nothing there", "check the address"),
    410: ("has nothing there any more", "check the address"),
    429: (
        "asks for fewer requests",
        "give a lower `rate`; run the same command again later to continue",
    ),
}


def _refusal(answer: Response) -> ServiceError:
    what, hint = _REFUSALS.get(answer.status, ("fails", _LATER))
    words = f": {answer.words}" if answer.words else ""
    return ServiceError(f"{answer.address} {what} (HTTP {answer.status}){words}", hint)


def _seconds(text: str | None) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _cause(error: BaseException) -> str:
    """The innermost reason, without the names of Python's classes and objects."""
    text = str(error)
    known = (
        ("Connection refused", "the connection was refused"),
        ("Name or service not known", "there is no such host"),
        ("Temporary failure in name resolution", "the name of the host cannot be looked up"),
        ("No route to host", "there is no way to the host"),
        ("Connection reset", "the connection broke"),
        ("RemoteDisconnected", "the connection broke"),
        ("IncompleteRead", "the answer is cut off"),
        ("CERTIFICATE_VERIFY_FAILED", "the certificate is not valid"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS there; perhaps http:// is meant"),
    )
    detail = re.search(r"certificate verify failed: ([^(\"']+)", text)
    if detail:
        return f"the certificate is not valid: {detail[1].strip()}"
    return next((words for sign, words in known if sign in text), " ".join(text.split())[:_QUOTE])


def _json_words(text: str) -> str:
    try:
        tables = json.loads(text)
    except ValueError:
        return text
    error = tables.get("error", tables)
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        keys = ("message", "description", "detail", "title", "details")
        parts = [str(error[k]) for k in keys if error.get(k) and not isinstance(error[k], list)]
        parts += [str(d) for d in error.get("details", []) if isinstance(error["details"], list)]
        return ": ".join(dict.fromkeys(parts))
    return ""


def _markup_words(text: str) -> str:
    """The title of HTML; of XML the text and code of its exceptions, else all of its text."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.I | re.S)
    if title:
        return html.unescape(title[1])
    if "<!ENTITY" not in text:
        try:
            root = ET.fromstring(text)
        except ET.ParseError:
            pass
        else:
            codes = [
                e.get("code") or e.get("exceptionCode")
                for e in root.iter()
                if e.tag.rpartition("}")[2] in ("ServiceException", "Exception")
            ]
            stated = " ".join(t.strip() for t in root.itertext() if t.strip())
            return ": ".join([*(c for c in codes[:1] if c), stated])
    return html.unescape(re.sub(r"<[^>]*>", " ", text))
