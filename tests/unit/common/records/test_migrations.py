"""Migrations are one line: two that were made side by side would stop every service's start."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from libs.common.records import migrate as migrating


def test_each_migration_follows_one_other() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.MIGRATIONS))
    script = ScriptDirectory.from_config(config)

    assert len(script.get_heads()) == 1
    revisions = list(script.walk_revisions())
    names = [revision.path.rsplit("/", 1)[-1] for revision in revisions]
    assert [name.split("_")[0] for name in names] == [revision.revision for revision in revisions]
