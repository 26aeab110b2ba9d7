"""From a scene to the pixels a satellite would deliver of it."""

from __future__ import annotations

import _ground as ground
import _objects as objects
import numpy as np
from _base import PIXEL, Float, Rng, Scene, TileSpec
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage
from shapely.geometry import Polygon

PSF = 0.7
CHROMA_PSF = 1.5
NOISE = 1.6
HAZE = (1.03, 1.02, 0.99)
PATH = (3.0, 4.0, 7.0)
"""Transmission and path radiance of the air by band: distance mutes contrast and adds blue."""


def render(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (rows, columns, 3) of a scene and its mask of valid ones (0 or 255)."""
    spec = scene.spec
    noises = ground.noise_planes(spec.pixels, spec.rng(31))
    image = ground.fields(scene, noises, spec.rng(32))
    ground.paint_brook(image, scene, noises[2])
    ground.paint_tracks(image, scene.tracks, noises)
    ground.paint_patches(image, scene.patches, noises, spec.rng(33))
    ground.paint_roads(image, scene, noises, spec.rng(34))
    _stand(image, scene)
    image *= (1 + 0.02 * noises[0])[..., None]
    _sense(image, spec, spec.rng(36))
    valid = _valid(spec)
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    pixels[valid == 0] = 0
    return pixels, valid


def _stand(image: Float, scene: Scene) -> None:
    """Put cars, crowns and roofs on the ground and let them cast shadows."""
    spec = scene.spec
    size = spec.pixels
    height = np.zeros((size, size), np.float32)
    alpha = np.zeros((size, size), np.float32)
    objects.paint_cars(image, height, scene.cars)
    roofs = np.zeros((size, size), np.float32)
    roof_image = np.zeros_like(image)
    for building in scene.buildings:
        objects.paint_building(roof_image, roofs, alpha, building)
    crowns = objects.Crowns(size, spec.rng(35))
    crowns.plant(scene.trees, spec.rng(37))
    crowns.paint(image, alpha, spec.rng(38))
    np.maximum(height, np.where(alpha < 0.5, crowns.height, 0), out=height)
    _compose(image, roof_image, alpha)
    np.maximum(height, roofs, out=height)
    objects.cast_shadows(image, height)


def _compose(image: Float, roofs: Float, alpha: Float) -> None:
    """Lay roofs over the ground; their planes hold colour times cover."""
    image *= (1 - alpha)[..., None]
    image += roofs


def _sense(image: Float, spec: TileSpec, rng: Rng) -> None:
    """Blur of the optics, coarser colour of pan-sharpening, light of the day, and noise."""
    luma = image.mean(axis=2)
    sharp = ndimage.gaussian_filter(luma, PSF)
    for band in range(3):
        tint = ndimage.gaussian_filter(image[..., band] - luma, CHROMA_PSF)
        plane = (sharp + tint) * (HAZE[band] * spec.gain[band]) + PATH[band] + spec.offset
        plane = 255 * np.power(np.clip(plane, 0, 255) / 255, spec.gamma)
        noise = rng.standard_normal(plane.shape, np.float32)
        image[..., band] = plane + noise * NOISE * np.sqrt(0.4 + plane / 200)


def _valid(spec: TileSpec) -> NDArray[np.uint8]:
    """Mask of the tile: the wedge is where the scene ended."""
    if not spec.wedge:
        return np.full((spec.pixels, spec.pixels), 255, np.uint8)
    wedge = Polygon([(x * spec.metres, y * spec.metres) for x, y in spec.wedge])
    place = Affine(PIXEL, 0, 0, 0, PIXEL, 0)
    shape = (spec.pixels, spec.pixels)
    out: NDArray[np.uint8] = rasterize(
        [(wedge, 0)], shape, fill=255, transform=place, dtype="uint8"
    )
    return out
