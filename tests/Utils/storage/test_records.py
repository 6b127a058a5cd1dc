"""Records say what made a folder's files; folders of strangers are not written to."""

import subprocess

import pytest
import yaml

from Utils.runtime.errors import UserError
from Utils.storage.records import claim_folder, commit


def test_a_folder_of_predictions_is_claimed_once_and_again(tmp_path):
    for iteration in (1, 2):
        claim_folder(tmp_path / "new", {"iteration": iteration})
        (tmp_path / "new" / "landmarks.csv").touch()
    record = yaml.safe_load((tmp_path / "new" / "prediction.yaml").read_text())
    assert record["iteration"] == 2
    assert {"started", "command", "threads", "versions"} <= set(record)


def test_results_of_strangers_stay(tmp_path):
    (tmp_path / "landmarks.csv").write_text("theirs")
    with pytest.raises(UserError, match="has a landmarks.csv that no earlier run wrote; give another folder"):
        claim_folder(tmp_path, {})
    with pytest.raises(UserError, match="is a file; give a folder"):
        claim_folder(tmp_path / "landmarks.csv", {})
    assert [path.name for path in tmp_path.iterdir()] == ["landmarks.csv"]


def test_the_commit_is_that_of_the_folder_itself(tmp_path):
    def git(*words):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "copy").mkdir()
    assert commit(tmp_path) == {}
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD")}
    assert commit(tmp_path / "copy") == {}
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD") + "-dirty"}
