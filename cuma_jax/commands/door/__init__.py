"""All commands under one name. Imported with nothing: a shell's start waits for it."""

from cuma_jax.commands.door.commands import COMMANDS as COMMANDS
from cuma_jax.commands.door.commands import console as console
from cuma_jax.commands.door.commands import flag_lines as flag_lines
from cuma_jax.commands.door.commands import main as main
