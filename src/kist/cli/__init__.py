"""The `kist` command: Docker's commands, options, output and exit codes, and a few of its own.

Start-up time is what a user feels: every module here is imported only when its command runs, and what is slow to
import (argparse, http.client, asyncio, dataclasses) is not imported at all.
"""
