"""Command lines: the one parser, and its help in short and in full."""

from cuma_jax.commands.command_line.parser import TEXT as TEXT
from cuma_jax.commands.command_line.parser import Distributed as Distributed
from cuma_jax.commands.command_line.parser import EvaluationSections as EvaluationSections
from cuma_jax.commands.command_line.parser import Preset as Preset
from cuma_jax.commands.command_line.parser import RunFolder as RunFolder
from cuma_jax.commands.command_line.parser import SavedRun as SavedRun
from cuma_jax.commands.command_line.parser import UsedRun as UsedRun
from cuma_jax.commands.command_line.parser import asks_for_help as asks_for_help
from cuma_jax.commands.command_line.parser import check_data_places as check_data_places
from cuma_jax.commands.command_line.parser import joined as joined
from cuma_jax.commands.command_line.parser import parse as parse
from cuma_jax.commands.command_line.parser import parse_runs as parse_runs
from cuma_jax.commands.command_line.parser import parse_saved_run as parse_saved_run
from cuma_jax.commands.command_line.parser import peek as peek
