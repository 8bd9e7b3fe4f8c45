"""Files: whole or not there, whatever happens while they are written."""

import os

import pytest

import files


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("old")
    with files.whole(path) as unfinished:
        with open(unfinished, "w") as file:
            file.write("new")
        assert path.read_text() == "old" and os.path.dirname(unfinished) == str(tmp_path)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), OSError(28, "No space")])
def test_a_file_that_fails_leaves_the_old_one(error, tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, files.whole(path) as unfinished:
        with open(unfinished, "w") as file:
            file.write("ne")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {path}: No space"


def test_a_link_where_a_file_is_made_is_not_written_through(tmp_path):
    path, other = tmp_path / "some.txt", tmp_path / "other.txt"
    other.write_text("mine")
    for link in (f"{path}.tmp", f"{path}.{os.getpid()}.tmp"):
        os.symlink(other, link)
        with files.whole(path) as unfinished, open(unfinished, "w") as file:
            file.write("new")
    assert other.read_text() == "mine" and path.read_text() == "new"
