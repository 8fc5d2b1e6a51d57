"""`python -m npt_viz`: exit status 0 ok, 1 the input is bad, 2 wrong usage, 130 stopped."""

import pkgutil
import sys
from importlib import import_module
from traceback import clear_frames

import typer

from npt_viz import commands
from npt_viz.commands._extras import APP, missing
from npt_viz.errors import NptVizError


def command_line() -> typer.Typer:
    """One command for every module of npt_viz.commands."""
    app = typer.Typer(
        name="npt_viz",
        help="See, train, compare and edit NPT layers. JSON goes to stdout, messages to stderr.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for found in pkgutil.iter_modules(commands.__path__):
        if not found.name.startswith("_"):
            module = import_module(f"npt_viz.commands.{found.name}")
            app.command(found.name, short_help=module.__doc__)(module.run)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a glyph shows a question mark and not a traceback.
        stream.reconfigure(errors="replace")
    try:
        command_line()(arguments, prog_name="npt_viz")
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except NptVizError as error:
        return _failed(error)
    except ModuleNotFoundError as error:
        if error.name not in APP:
            raise
        return _failed(missing(error.name))
    except Exception as error:
        sentence = _memory_sentence(error, arguments)
        if sentence is None:
            raise
        return _failed(NptVizError(sentence))
    return 0


def _memory_sentence(error: Exception, arguments: list[str] | None) -> str | None:
    """Sentence where a command ran out of memory; None for any other error."""
    # Only here: `--help` does not wait for torch.
    from npt_viz.model.memory import is_out_of_memory, out_of_memory_sentence

    if not is_out_of_memory(error):
        return None
    clear_frames(error.__traceback__)
    command = next(iter(sys.argv[1:] if arguments is None else arguments), "this")
    return out_of_memory_sentence(error, f"the command {command}", MEMORY_ADVICE)


MEMORY_ADVICE = "use a shorter text, fewer layers, a checkpoint of lower rank, --dtype bfloat16, or a machine with more of it"


def _failed(error: NptVizError) -> int:
    print(f"npt_viz: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
