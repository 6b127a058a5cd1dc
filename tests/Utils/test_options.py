"""The command line and the paths file: what is taken, and what is refused in one line."""

import pytest
import torch

from Utils.options import Hyperparameters, Paths, hyperparameters, parse, setting
from Utils.runtime.errors import UserError, exit_cleanly


class First:
    settings = {"number_of_clusters": 250}
    free_settings = ()


class Second:
    settings = {"normalise_by": ""}
    free_settings = ("normalise_by",)


DATABASES = {"First": First, "Second": Second}


@pytest.fixture
def paths_file(tmp_path):
    path = tmp_path / "main.yaml"
    path.write_text(f"First_datapath: '{tmp_path}'\nempty: ''\nnumber: 3\nlog_path: {tmp_path}/logs\n")
    return path


def options(paths_file, *arguments, flags=("experiment", "resume")):
    argv = ["--paths", str(paths_file), "--dataset_name", "First", "--experiment_name", "e", *arguments]
    return parse(argv, "", DATABASES, flags)


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


def test_the_user_has_the_last_word(paths_file):
    found = options(
        paths_file,
        "--set",
        "number_of_clusters=7",
        "--set",
        "learning_rate_steps=5,6",
        "--set",
        "total_iterations=80_000",
    )
    assert found.hyper.number_of_clusters == 7
    assert found.hyper.learning_rate_steps == (5, 6)
    assert found.hyper.total_iterations == 80_000


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("leraning_rate=1", "nearest known one is learning_rate"),
        ("number_of_cluster=1", "nearest known one is number_of_clusters"),
        ("batch_size=big", "must be a int"),
        ("learning_rate=fast", "must be a float"),
        ("learning_rate=nan", "must be a float"),
        ("learning_rate_steps=1,x", "list of whole numbers"),
        ("batch_size", "NAME=VALUE"),
        ("number_of_clusters=1", "at least 2"),
        ("image_size=100", "multiple of 64"),
        ("width=48", "multiple of 32"),
        ("descriptor_window=2", "must be odd"),
        ("outlier_fraction=1", "below 1"),
        ("augmentation=none", "one of fast, imgaug"),
        ("compile=perhaps", "must be a bool"),
    ],
)
def test_bad_settings_are_named(paths_file, setting, message):
    with pytest.raises(UserError, match=message):
        options(paths_file, "--set", setting)


def test_settings_of_another_data_set_are_unknown(paths_file):
    with pytest.raises(UserError, match="normalise_by"):
        options(paths_file, "--set", "normalise_by=1,2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "no mapping"),
        ("just words", "no mapping"),
        ("a: [1", "not readable as YAML"),
        ("", "no mapping"),
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
    with pytest.raises(UserError, match="no directory"):
        paths.folder("log_path")


@pytest.mark.parametrize("name", ["a/b", "..", "CheckPoints", "x" * 201, "a\nb", "\udcff"])
def test_odd_experiment_names_are_refused(paths_file, name):
    with pytest.raises(UserError, match="experiment_name"):
        parse(
            ["--paths", str(paths_file), "--dataset_name", "First", "--experiment_name", name],
            "",
            DATABASES,
            ("experiment",),
        )


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu0"])
def test_odd_devices_are_refused(paths_file, device):
    with pytest.raises(UserError, match="--device"):
        options(paths_file, "--device", device)


def test_architecture_is_adopted_from_a_checkpoint_unless_the_user_contradicts():
    hyper = hyperparameters(["batch_size=3"], {})
    hyper.adopt({"width": 64, "image_size": 128}, "x.pth")
    assert (hyper.width, hyper.image_size) == (64, 128)
    with pytest.raises(UserError, match="x.pth was made with width=64"):
        hyperparameters(["width=32"], {}).adopt({"width": 64}, "x.pth")


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError):
        _ = Hyperparameters({}).nothing


def test_user_errors_end_with_code_2_and_one_line(capsys):
    @exit_cleanly
    def main():
        raise UserError("a\nb")

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: a b\n"


def test_a_full_disk_ends_with_code_2_and_one_line(capsys):
    @exit_cleanly
    def main():
        with open("/dev/full", "w") as handle:
            handle.write("x" * 100_000)

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "No space left on device" in capsys.readouterr().err


def test_free_settings_are_kept_beside_those_of_a_checkpoint():
    hyper = hyperparameters(["normalise_by=1,2"], Second.settings, Second.free_settings)
    assert hyper.of_data_set == ("normalise_by",)
    hyper.adopt({"normalise_by": "3,4"}, "x.pth")
    assert hyper.normalise_by == "1,2"


@pytest.mark.parametrize(
    ("name", "value", "text"), [("a", (4, 5), "a=4,5"), ("a", True, "a=true"), ("a", 0.5, "a=0.5"), ("a", "", "a=")]
)
def test_settings_in_messages_are_those_of_the_command_line(name, value, text):
    assert setting(name, value) == text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("width=99999999968", "at most 2048"),
        ("nms_superpoint=100000000000000000000", "at most 1000"),
        ("clustering_rounds=1000000000", "at most 10000"),
        ("learning_rate_steps=40,-3", "learning_rate_steps=40,-3: give at most 100 iterations, from 0"),
        ("total_iterations=" + "9" * 5000, "must be a int"),
    ],
)
def test_settings_that_no_machine_can_hold(setting, said):
    with pytest.raises(UserError, match=said) as raised:
        hyperparameters([setting], {})
    assert len(str(raised.value)) < 300


def test_settings_of_a_checkpoint_have_the_same_bounds():
    with pytest.raises(UserError, match="x.pth was made with image_size=-64: the value must be at least 64"):
        hyperparameters([], {}).adopt({"image_size": -64}, "x.pth")


@pytest.mark.parametrize(
    "content",
    [
        "log_path: 2024-99-99",
        "[" * 3000,
        "a: &a [x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1 or '')] * 9)}]\n" for i in range(1, 9)),
        'log_path: "a\\0b"',
        "log_path: ~nobody_of_this_name/a",
        f"log_path: {'a/' * 3000}",
    ],
)
def test_odd_paths_files_are_one_line(tmp_path, content):
    file = tmp_path / "paths.yaml"
    file.write_text(content + "\n")
    with pytest.raises(UserError) as raised:
        Paths(file).folder("log_path" if "log_path" in content else "a8")
    assert len(str(raised.value)) < 600
