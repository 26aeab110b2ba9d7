"""A world whose colours tell where they are, and a server that shows it in several protocols.

A pixel whose centre is at (x, y) in any CRS has the colour of the cell of `CELL` units that holds
it, so an image that lies one pixel off, is turned or flipped has other colours.
"""

import io
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

HALF = 20037508.342789244
LEVEL = 18
"""Of Web Mercator; its pixels are the cells there."""
MERCATOR_CELL = 2 * HALF / (256 << LEVEL)
LAMBERT_ORIGIN = (0.0, 12_000_000.0)
"""Upper left corner of the national matrix set, EPSG:2154."""


def colours(x, y, cell):
    """(3, h, w) uint8 of the cells that hold the coordinates `x` (w,) and `y` (h,)."""
    col, row = np.floor(x / cell).astype(int), np.floor(y / cell).astype(int)
    high = (col[None, :] >> 8) * 16 + (row[:, None] >> 8)
    red, green = np.broadcast_arrays(col[None, :], row[:, None])
    return np.stack([red, green, high]).astype(np.uint8)


def view(box, width, height, cell):
    """The world within left, bottom, right, top."""
    left, bottom, right, top = box
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top - (np.arange(height) + 0.5) * (top - bottom) / height
    return colours(x, y, cell)


def encode(pixels, form="PNG", alpha=None):
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


class World(ThreadingHTTPServer):
    """Serves it; `faults` are given in turn to the requests for images that come in."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        self.faults = []
        self.requests = []
        self.posts = []
        """(path, body) of each POST."""
        self.busy = 0
        """How many POSTs get HTTP 429."""
        self.documents = {}
        """Path -> (media type, bytes): answers that are fixed."""
        self.empty = set()
        """Numbers of image requests that get a transparent image or nothing."""
        self.delay = 0.0
        self.images = 0
        self.tile_px = 256
        self.cell = MERCATOR_CELL
        self.features = []
        """Of a WFS, GeoJSON."""
        self.page = 5000
        self.crs_north_first = {"EPSG:4326", "EPSG:3035"}

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    @property
    def counts(self):
        return Counter(urlsplit(r).path for r in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))  # of a POST
        server, parts = self.server, urlsplit(self.path)
        query = {k.upper(): v for k, v in parse_qsl(parts.query, True)}
        with server.lock:
            server.requests.append(self.path)
            server.agent = self.headers["User-Agent"]
            if self.command == "POST":
                server.posts.append((self.path, body.decode()))
                server.busy -= 1
        if self.command == "POST" and server.busy >= 0:
            return self.answer(429, b"", "text/plain")
        if query.get("REQUEST") == "GetFeature":
            return self.feature_page(query)
        if (
            parts.path in server.documents
            and "GETMAP" not in query.get("REQUEST", "").upper()
            and (query.get("REQUEST", "").upper() != "GETTILE")
        ):
            kind, body = server.documents[parts.path]
            return self.answer(200, body, kind)
        box, size, cell = self.asked(parts.path, query)
        if box is None:
            return self.answer(404, b"<html><title>Not Found</title></html>", "text/html")
        with server.lock:
            server.images += 1
            number = server.images
            fault = server.faults.pop(0) if server.faults else None
        time.sleep(server.delay)
        pixels = view(box, *size, cell)
        if number in server.empty:
            alpha = np.zeros(pixels.shape[1:], np.uint8)
            return self.answer(200, encode(pixels, alpha=alpha), "image/png")
        kind = query.get("FORMAT", "image/png")
        kind = kind if "/" in kind else "image/png"
        body = encode(pixels, kind.split("/")[1].upper())
        return self.answer(200, body, kind) if fault is None else self.fail(fault, body)

    do_POST = do_GET  # noqa: N815

    def feature_page(self, query):
        south, west, north, east = map(float, query["BBOX"].split(",")[:4])
        near = [
            f
            for f in self.server.features
            if west <= f["geometry"]["coordinates"][0][0][0] <= east
            and south <= f["geometry"]["coordinates"][0][0][1] <= north
        ]
        if query.get("RESULTTYPE") == "hits":
            text = (
                '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs/2.0" '
                f'numberMatched="{len(near)}" numberReturned="0"/>'
            )
            return self.answer(200, text.encode(), "text/xml")
        start = int(query["STARTINDEX"])
        page = near[start : start + min(int(query["COUNT"]), self.server.page)]
        tables = {"type": "FeatureCollection", "features": page, "numberMatched": len(near)}
        return self.answer(200, json.dumps(tables).encode(), "application/json")

    def asked(self, path, query):
        """Box, (width, height) and cell of the image that a request is for."""
        server = self.server
        words = path.strip("/").split("/")
        if words[0] in ("xyz", "tms", "rest") or "tile" in words:
            z, x, y = words[-3:]
            if "tile" in words:
                x, y = y, x  # ArcGIS: level/row/column
            z, x, y = int(z), int(x), int(y.split(".")[0])
            if words[0] == "tms":
                y = (1 << z) - 1 - y
            if words[0] == "rest" and words[1] == "lambert":
                return self.lambert(y, x)
            side = 2 * HALF / (1 << z)
            left, top = -HALF + x * side, HALF - y * side
            px = server.tile_px
            return (left, top - side, left + side, top), (px, px), server.cell
        if query.get("REQUEST") == "GetTile":
            row, col = int(query["TILEROW"]), int(query["TILECOL"])
            if query["TILEMATRIXSET"] == "LAMB93":
                return self.lambert(row, col)
            side = 2 * HALF / (1 << int(query["TILEMATRIX"]))
            left, top = -HALF + col * side, HALF - row * side
            return (left, top - side, left + side, top), (256, 256), server.cell
        if "BBOX" in query:
            box = [float(v) for v in query["BBOX"].split(",")]
            if query.get("CRS") in server.crs_north_first:
                box = [box[1], box[0], box[3], box[2]]
            if "SIZE" in query:
                width, height = map(int, query["SIZE"].split(","))
            else:
                width, height = int(query["WIDTH"]), int(query["HEIGHT"])
            return box, (width, height), server.cell
        return None, None, None

    def lambert(self, row, col):
        side = 256 * 0.5
        left, top = LAMBERT_ORIGIN[0] + col * side, LAMBERT_ORIGIN[1] - row * side
        return (left, top - side, left + side, top), (256, 256), 0.5

    def fail(self, fault, body):
        if isinstance(fault, tuple):  # status, headers, body
            status, headers, text = fault
            return self.answer(status, text, headers.get("Content-Type", "text/plain"), headers)
        if fault == "cut":  # of the length that its header says
            return self.answer(200, body[: len(body) // 2], "image/png")
        if fault == "short":  # the connection ends amid the answer
            self.answer(200, body, "image/png", sent=len(body) // 2)
            self.close_connection = True
            return None
        if fault == "nothing":
            return self.answer(200, b"", "image/png")
        return self.answer(int(fault), b"", "text/plain")

    def answer(self, status, body, kind, headers=None, sent=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            if name != "Content-Type":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])


# -- capabilities as the services write them

WMTS_NAMES = (
    'xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0"'
)


def _matrix(name, denominator, corner, width, height):
    return f"""<TileMatrix><ows:Identifier>{name}</ows:Identifier>
      <ScaleDenominator>{denominator!r}</ScaleDenominator><TopLeftCorner>{corner}</TopLeftCorner>
      <TileWidth>256</TileWidth><TileHeight>256</TileHeight>
      <MatrixWidth>{width}</MatrixWidth><MatrixHeight>{height}</MatrixHeight></TileMatrix>"""


def mercator_set(name="PM", levels=range(16, 20)):
    rows = "".join(
        _matrix(z, 559082264.0287178 / 2**z, f"-{HALF} {HALF}", 1 << z, 1 << z) for z in levels
    )
    return f"""<TileMatrixSet><ows:Identifier>{name}</ows:Identifier>
      <ows:SupportedCRS>EPSG:3857</ows:SupportedCRS>{rows}</TileMatrixSet>"""


def lambert_set():
    x, y = LAMBERT_ORIGIN
    return f"""<TileMatrixSet><ows:Identifier>LAMB93</ows:Identifier>
      <ows:SupportedCRS>urn:ogc:def:crs:EPSG::2154</ows:SupportedCRS>
      {_matrix("0.5m", 0.5 / 0.28e-3, f"{x} {y}", 100_000, 100_000)}</TileMatrixSet>"""


def wmts_layer(name, sets=("PM",), resource="", tile_limits="", forms=("image/png",)):
    links = "".join(
        f"<TileMatrixSetLink><TileMatrixSet>{s}</TileMatrixSet>{tile_limits}</TileMatrixSetLink>"
        for s in sets
    )
    return f"""<Layer><ows:Title>{name}</ows:Title><ows:Identifier>{name}</ows:Identifier>
      <ows:WGS84BoundingBox><ows:LowerCorner>-180 -80</ows:LowerCorner>
      <ows:UpperCorner>180 80</ows:UpperCorner></ows:WGS84BoundingBox>
      <Style isDefault="true"><ows:Identifier>normal</ows:Identifier></Style>
      {"".join(f"<Format>{f}</Format>" for f in forms)}{links}{resource}</Layer>"""


def wmts(layers, sets):
    return f"""<?xml version="1.0" encoding="UTF-8"?><Capabilities {WMTS_NAMES}>
      <ows:ServiceIdentification><ows:Title>Images</ows:Title><ows:Fees>licences</ows:Fees>
      <ows:AccessConstraints>Licence Ouverte 2.0</ows:AccessConstraints></ows:ServiceIdentification>
      <ows:ServiceProvider><ows:ProviderName>The Agency</ows:ProviderName></ows:ServiceProvider>
      <Contents>{"".join(layers)}{"".join(sets)}</Contents></Capabilities>""".encode()


def wms(crs=("EPSG:3857", "EPSG:4326", "EPSG:2154"), version="1.3.0", size=1024):
    key = "CRS" if version == "1.3.0" else "SRS"
    box = (
        """<EX_GeographicBoundingBox><westBoundLongitude>-5</westBoundLongitude>
        <eastBoundLongitude>10</eastBoundLongitude><southBoundLatitude>41</southBoundLatitude>
        <northBoundLatitude>52</northBoundLatitude></EX_GeographicBoundingBox>"""
        if version == "1.3.0"
        else '<LatLonBoundingBox minx="-5" miny="41" maxx="10" maxy="52"/>'
    )
    root = "WMS_Capabilities" if version == "1.3.0" else "WMT_MS_Capabilities"
    names = 'xmlns="http://www.opengis.net/wms"' if version == "1.3.0" else ""
    return f"""<?xml version="1.0"?><{root} version="{version}" {names}>
      <Service><Name>WMS</Name><Fees>none</Fees><AccessConstraints>none</AccessConstraints>
      <MaxWidth>{size}</MaxWidth><MaxHeight>{size}</MaxHeight></Service>
      <Capability><Request><GetMap><Format>image/jpeg</Format><Format>image/png</Format></GetMap>
      </Request><Layer><Title>all</Title>{"".join(f"<{key}>{c}</{key}>" for c in crs)}{box}
      <Layer><Name>ORTHO</Name><Title>Ortho</Title>
      <Attribution><Title>The Agency, Licence Ouverte 2.0</Title></Attribution></Layer>
      <Layer><Name>PLEIADES.2022</Name></Layer><Layer><Name>PLEIADES.2023</Name></Layer>
      </Layer></Capability></{root}>""".encode()


def wfs(names=("BDTOPO_V3:batiment", "BDTOPO_V3:troncon_de_route")):
    types = "".join(f"<FeatureType><Name>{n}</Name></FeatureType>" for n in names)
    return f"""<?xml version="1.0"?><wfs:WFS_Capabilities version="2.0.0"
      xmlns="http://www.opengis.net/wfs/2.0" xmlns:wfs="http://www.opengis.net/wfs/2.0"
      xmlns:ows="http://www.opengis.net/ows/1.1"><ows:ServiceIdentification>
      <ows:AccessConstraints>Licence Ouverte 2.0</ows:AccessConstraints>
      </ows:ServiceIdentification><ows:ServiceProvider><ows:ProviderName>IGN</ows:ProviderName>
      </ows:ServiceProvider><FeatureTypeList>{types}</FeatureTypeList>
      </wfs:WFS_Capabilities>""".encode()


def image_server(pixel=0.5, corner=(700_000.25, 6_600_000.25), **more):
    x, y = corner
    extent = {"xmin": x, "ymin": y - 200_000, "xmax": x + 200_000, "ymax": y}
    reference = {"wkid": 102110, "latestWkid": 2154}
    tables = {
        "currentVersion": 10.91,
        "extent": {**extent, "spatialReference": reference},
        "spatialReference": reference,
        "pixelSizeX": pixel,
        "pixelSizeY": pixel,
        "bandCount": 3,
        "pixelType": "U8",
        "maxImageHeight": 4100,
        "maxImageWidth": 15000,
        "copyrightText": "The Agency",
    }
    return json.dumps({**tables, **more}).encode()


def cached_map():
    lods = [{"level": z, "resolution": 2 * HALF / (256 << z), "scale": 1} for z in range(20)]
    reference = {"wkid": 102100, "latestWkid": 3857}
    info = {"rows": 256, "cols": 256, "origin": {"x": -HALF, "y": HALF}, "lods": lods}
    tables = {"singleFusedMapCache": True, "tileInfo": {**info, "spatialReference": reference}}
    return json.dumps({**tables, "copyrightText": "The Agency"}).encode()
