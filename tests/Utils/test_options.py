"""The command line and the paths file: what is taken, and what is refused in one line."""

import tempfile

import pytest
import torch
from pydantic import BaseModel

from Utils.options import Paths, parse, provide_temporary_folder
from Utils.runtime.errors import UserError


class First:
    settings = BaseModel
    defaults = {"number_of_clusters": 250}
    protocols = ()


DATABASES = {"First": First}


@pytest.fixture
def paths_file(tmp_path):
    path = tmp_path / "main.yaml"
    path.write_text(f"First_datapath: '{tmp_path}'\nempty: ''\nnumber: 3\nlog_path: {tmp_path}/logs\n")
    return path


def options(paths_file, *arguments, flags=("experiment", "resume")):
    argv = ["--paths", str(paths_file), "--dataset_name", "First", "--experiment_name", "e", *arguments]
    return parse(argv, "", DATABASES, {}, flags)


def test_defaults_are_the_paper_s_and_the_data_set_s(paths_file):
    found = options(paths_file, "--device", "cpu")
    assert found.hyper.number_of_clusters == 250
    assert found.hyper.learning_rate == 5e-4
    assert found.hyper.image_size == 256
    assert found.hyper.learning_rate_steps == (50_000, 65_000)
    assert found.log_path.name == "logs"
    assert found.device == torch.device("cpu")
    assert not found.resume
    assert str(found.data_path) == "data"


def test_set_is_repeatable(paths_file):
    found = options(paths_file, "--set", "number_of_clusters=7", "--set", "learning_rate_steps=5,6")
    assert (found.hyper.number_of_clusters, found.hyper.learning_rate_steps) == (7, (5, 6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "not a mapping"),
        ("just words", "not a mapping"),
        ("a: [1", "not readable as YAML"),
        ("", "not a mapping"),
    ],
)
def test_bad_paths_files_are_named(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        Paths(path)
    assert "p.yaml" in str(error.value)


def test_missing_paths_file_is_named(tmp_path):
    with pytest.raises(UserError, match="--paths"):
        Paths(tmp_path / "none.yaml")


def test_path_keys(paths_file, tmp_path):
    paths = Paths(paths_file)
    assert paths.folder("First_datapath") == tmp_path
    assert paths.get("nothing") == ""
    assert paths.optional("nothing") == ""
    assert paths.optional("First_datapath") == tmp_path
    with pytest.raises(UserError, match="no key Other_datapath"):
        paths.folder("Other_datapath")
    with pytest.raises(UserError, match="empty is empty"):
        paths.folder("empty")
    with pytest.raises(UserError, match="number is 3"):
        paths.folder("number")
    with pytest.raises(UserError, match="not a directory"):
        paths.folder("log_path")


@pytest.mark.parametrize("name", ["a/b", "..", "CheckPoints", "x" * 201, "a\nb", "\udcff"])
def test_odd_experiment_names_are_refused(paths_file, name):
    with pytest.raises(UserError, match="experiment_name"):
        parse(
            ["--paths", str(paths_file), "--dataset_name", "First", "--experiment_name", name],
            "",
            DATABASES,
            {},
            ("experiment",),
        )


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu0"])
def test_odd_devices_are_refused(paths_file, device):
    with pytest.raises(UserError, match="--device"):
        options(paths_file, "--device", device)


@pytest.mark.parametrize(
    "content",
    [
        "log_path: 2024-99-99",
        "[" * 3000,
        "a: &a [x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1 or '')] * 9)}]\n" for i in range(1, 9)),
        "log_path: ~nobody_of_this_name/a",
    ],
)
def test_odd_paths_files_are_one_line(tmp_path, content):
    file = tmp_path / "paths.yaml"
    file.write_text(content + "\n")
    with pytest.raises(UserError) as raised:
        Paths(file).folder("log_path" if "log_path" in content else "a8")
    assert len(str(raised.value)) < 600


def test_a_system_without_a_temporary_folder(tmp_path, monkeypatch):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)
    provide_temporary_folder(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path)
