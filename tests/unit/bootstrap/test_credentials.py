"""Generated secrets in files."""

from pathlib import Path

from deploy.bootstrap.credentials import Credentials


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = Credentials(tmp_path).secret("api-key", prefix="hydra-")

    assert first.startswith("hydra-")
    assert len(first) > 40
    assert Credentials(tmp_path).secret("api-key", prefix="hydra-") == first


def test_different_names_have_different_secrets(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)

    assert credentials.secret("a") != credentials.secret("b")


def test_folder_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    path = Credentials(folder).path("a")

    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.unfinished").write_text("half")

    assert Credentials(tmp_path).secret("a") != "half"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
