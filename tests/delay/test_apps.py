from django.apps import apps
from django.core.management import call_command


def test_the_label_is_legal_and_the_table_as_the_model_says(database):
    assert apps.get_app_config("fastchannels_delay").name == "fastchannels.delay"
    # Raises SystemExit when a migration is missing.
    call_command("makemigrations", "fastchannels_delay", check=True, dry_run=True, verbosity=0)
