"""What OGC services say of themselves: XML without namespaces, and addresses of requests."""

import difflib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pyproj import CRS

from geopipe.errors import ServiceError
from geopipe.web import Client, Response

_OWN = {"service", "request", "version", "acceptversions"}
"""Parameters that geopipe sets itself."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is asked; other parameters of its address (a key, a map) stay."""

    address: str

    def url(self, params: Mapping[str, str]) -> str:
        """The address of a request."""
        parts = urlsplit(self.address)
        given = {k: v for k, v in parse_qsl(parts.query, True) if k.lower() not in _OWN}
        set_here = {k.lower() for k in params}
        kept = {k: v for k, v in given.items() if k.lower() not in set_here}
        return urlunsplit(parts._replace(query=urlencode({**kept, **params}, safe=":/,")))

    def capabilities(self, client: Client, service: str, version: str) -> ET.Element:
        """The answer to GetCapabilities, without namespaces; ServiceError when it is none.

        The address of a document (``.xml``) is asked as it is.
        """
        params = {"SERVICE": service, "REQUEST": "GetCapabilities", "VERSION": version}
        url = self.address if self.is_document else self.url(params)
        return parse_xml(client.get(url), f"the capabilities of a {service}", "Capabilities")

    @property
    def is_document(self) -> bool:
        """Whether it is a file of capabilities and not what answers other requests."""
        return urlsplit(self.address).path.lower().endswith(".xml")


def parse_xml(answer: Response, wanted: str, root_tag: str) -> ET.Element:
    """The root of an answer in XML, tags without namespaces, which ends in `root_tag`.

    Raises ServiceError for an exception of the service, and for what is no XML.
    """
    text = answer.content
    if b"<!ENTITY" in text:
        raise ServiceError(f"{answer.address} answers XML with entities, which is refused")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as e:
        raise _other(answer, wanted) from e
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [k for k in element.attrib if k.startswith("{")]:
            element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    if root.tag in ("ServiceExceptionReport", "ExceptionReport"):
        raise ServiceError(f"{answer.address} refuses: {answer.words}", "check the request")
    if not root.tag.endswith(root_tag):
        raise _other(answer, wanted)
    return root


def _other(answer: Response, wanted: str) -> ServiceError:
    words = f": {answer.words}" if answer.words else ""
    return ServiceError(
        f"{answer.address} answers {answer.kind} that is not {wanted}{words}",
        "check the address and the kind of service",
    )


def text(element: ET.Element | None, path: str) -> str:
    """The text of a descendant, "" when there is none."""
    content = None if element is None else element.findtext(path)
    return " ".join((content or "").split())


def north_first(crs: CRS) -> bool:
    """Whether the first axis of `crs` runs north, as in EPSG:4326 and EPSG:3035."""
    return bool(crs.axis_info) and crs.axis_info[0].direction.lower() in ("north", "south")


def layer_credit(*parts: str) -> str:
    """Who is to be named, and the terms of use where the service states them."""
    stated = [p.strip(" ;") for p in parts]
    worth = [p for p in stated if p and not re.fullmatch(r"(?i)none|no|n/?a|-|unknown|0", p)]
    return "; ".join(dict.fromkeys(worth))


def select(names: Iterable[str], wanted: str | None, what: str) -> str:
    """The one of `names` that is `wanted`; a pattern with ``*`` takes the last in order.

    Raises ServiceError naming what there is.
    """
    offered = list(dict.fromkeys(names))
    if wanted in offered:
        return str(wanted)
    if wanted is None:
        if len(offered) == 1:
            return offered[0]
        raise ServiceError(f"the service has {len(offered)} {what}s", f"give one: {_list(offered)}")
    matches = sorted(n for n in offered if fnmatchcase(n, wanted)) if "*" in wanted else []
    if matches:
        return matches[-1]
    near = difflib.get_close_matches(wanted, offered, n=5, cutoff=0.5)
    raise ServiceError(
        f"the service has no {what} {wanted}",
        f"did you mean {_list(near)}?" if near else f"it has {_list(offered) or 'none'}",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
