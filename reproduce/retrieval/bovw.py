"""The shallow comparator: bags of visual words (Yang and Newsam 2013, the paper's [6]).

Dense DAISY descriptors of scikit-image in grey, words by k-means of scikit-learn, square roots of
the words' shares, Euclidean distance: Hellinger's between the shares (Arandjelovic and Zisserman
2012, CVPR, "Three things everyone should know to improve object retrieval"). Yang and Newsam take
SIFT at salient points, which did less well here (docs/results/retrieval).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.feature import daisy
from sklearn.cluster import MiniBatchKMeans

from geopipe.errors import SceneError
from geopipe.tensors import read_npy
from reproduce.retrieval.experiment import Images

WORDS = 150
_STEP, _SIDE = 10, 256
_SAMPLED = 100_000


def bags(images: Images, cache: Path, n_words: int = WORDS, seed: int = 0) -> np.ndarray:
    """(n, words) float32: square roots of the shares of the visual words in each image."""
    key = repr((n_words, seed, [(i.class_name, i.stamp) for i in images.items])).encode()
    path = cache / f"bovw-{hashlib.sha256(key).hexdigest()}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, _shares(images, n_words, seed))
        part.replace(path)
    shares = read_npy(path, "float32", (len(images.items), n_words), SceneError)
    return np.asarray(np.sqrt(shares))


def _shares(images: Images, n_words: int, seed: int) -> np.ndarray:
    each = max(1, _SAMPLED // len(images.items))
    rng = np.random.default_rng(seed)
    descriptor_sets = [descriptors(item.path) for item in images.items]
    sample = np.concatenate([rng.permutation(d)[:each] for d in descriptor_sets])
    kmeans = MiniBatchKMeans(n_words, random_state=seed, n_init=3, batch_size=4096).fit(sample)
    shares = [np.bincount(kmeans.predict(d), minlength=n_words) / len(d) for d in descriptor_sets]
    return np.array(shares, np.float32)


def descriptors(path: str) -> np.ndarray:
    """(points, 104) float32 of an image in grey, at _SIDE px."""
    grey = Image.open(path).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    features = daisy(np.asarray(grey), step=_STEP, radius=12, rings=2, histograms=6, orientations=8)
    return np.asarray(features.reshape(-1, features.shape[2]), np.float32)
