"""The `balmer` command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import errno
import os
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from balmer.runfile import fail, find_run_file, parse, read_run, resolved, settings_parser
from balmer.stages import NAMES
from scale.errors import SetAsideError, UserError
from scale.progress import for_stream
from scale.storage.objects import is_url

if TYPE_CHECKING:
    from balmer.config import RunConfig
    from balmer.folder import RunFolder

USAGE = """\
usage: balmer COMMAND [arguments]

Reads the spectral lines of a language model: susceptibilities, their prediction, and the clusters they form.

  demo                  everything, on the shipped model and Python's own library, on a laptop
  run RUN.yaml          all stages of a run, resumable; RUN.yaml is a run file or a run folder
                        --control NAME carries a control through, beside it
                        --engine ray --address auto does it on the Ray cluster that this machine belongs to
  controls RUN          the run beside its controls: is it worth more than they are?
  plan RUN.yaml         time, memory and disk of every stage before it is begun, here or on a cluster
  calibrate RUN.yaml    try settings and estimators, recommend some; --write puts them into the run file
  status RUN            what is done, what is stale and why, what is left
  report RUN            build the report again, or fetch it from a store; --open shows it, --serve on 127.0.0.1
  doctor [RUN.yaml]     what this machine can do

balmer COMMAND --help says more. Stages: {stages}.
"""
#: What the operating system says when there is no room or no right to write.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def run_options(program: str, description: str, target: bool) -> argparse.ArgumentParser:
    """Flags of the commands that work on a run; everything else on the line is a setting."""
    parser = argparse.ArgumentParser(prog=program, add_help=False, description=description, allow_abbrev=False)
    if target:
        parser.add_argument("target", metavar="RUN.yaml", help="run file or run folder")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="make this stage and all after it again")
    parser.add_argument("--until", dest="last", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--overwrite", action="store_true", help="let another model or text replace a run")
    parser.add_argument("--quiet", action="store_true", help="say nothing but mistakes")
    return parser


def show_run_help(options: argparse.ArgumentParser, settings: str) -> int:
    print(options.format_help())
    print(f"Every setting of the run file is also a flag ({settings}):\n")
    settings_parser(options.prog, "").print_help()
    return 0


def command_run(arguments: Sequence[str]) -> int:
    options = run_options("balmer run", "All stages of a run. What is done is not done again.", target=True)
    what = "carry a control of the run through, in a folder beside it: nbeta0, gaussian, permuted or activations"
    options.add_argument("--control", metavar="CONTROL", help=what)
    if not arguments or "--help" in arguments or "-h" in arguments:
        return show_run_help(options, "--sgld.draws 200")
    known, flags = options.parse_known_args(list(arguments))
    config = read_run(known.target, flags)
    if not known.control:
        return carry_out(config, known)
    control = control_of(on_this_machine(config, "balmer run --control"), known)
    status = carry_out(control, known)
    if status == 0:
        lay_control_beside(config, known)
    return status


def control_of(config: RunConfig, options: argparse.Namespace) -> RunConfig:
    """The control's own run, with what it has in common with the run already in its folder."""
    from balmer.controls import controlled, prepare

    control = controlled(config, options.control)
    linked = prepare(config, control)
    for_stream(options.quiet).say(f"{shown(control.folder)}: as in the run: {', '.join(linked) or 'nothing more'}")
    return control


def command_controls(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="balmer controls", description="A run beside its controls.")
    parser.add_argument("target", metavar="RUN", help="run folder or run file")
    known, flags = parser.parse_known_args(list(arguments))

    print("\n".join(lay_beside(on_this_machine(read_run(known.target, flags), "balmer controls"))))
    return 0


def lay_beside(config: RunConfig) -> list[str]:
    """The finished controls beside the run, also in its report; what they say and where it is to be seen."""
    from balmer.comparison import compare
    from balmer.renewal import renew_report

    said = compare(config)
    if renew_report(config):
        return [*said, f"Report: {shown(Path(config.folder) / 'report' / 'index.html')}"]
    return [*said, f"The report does not show it yet: balmer report {shown(config.folder)}"]


def lay_control_beside(run: RunConfig, options: argparse.Namespace) -> None:
    """A control that has been carried through, if there is a finished run that it is a control of."""
    from balmer.control_state import controls_of, finished
    from balmer.folder import RunFolder

    place = Path(run.folder)
    alike = options.control in controls_of(place).alike
    if alike and finished(place) and not RunFolder(place).at_work():
        said = lay_beside(run)
    else:
        said = [f"Not beside the run yet: balmer controls {shown(place)} when both are finished"]
    if not options.quiet:
        print("\n".join(said))


def command_demo(arguments: Sequence[str]) -> int:
    from balmer.demo import demo_arguments

    options = run_options("balmer demo", "Everything, on the shipped model and Python's own library.", target=False)
    if "--help" in arguments or "-h" in arguments:
        return show_run_help(options, "--folder runs/mine")
    known, flags = options.parse_known_args(list(arguments))
    parser = settings_parser("balmer demo", "")
    return carry_out(resolved(parse(parser, [*demo_arguments(), *flags])), known)


def carry_out(config: object, options: argparse.Namespace) -> int:
    from balmer.config import RunConfig
    from balmer.runner import Runner

    assert isinstance(config, RunConfig)
    progress = for_stream(options.quiet)
    try:
        runner = Runner(config, progress)
        made = runner.run(options.first, options.last, options.overwrite)
    except KeyboardInterrupt:
        print(f"\nbalmer: stopped; go on with: balmer run {shown(config.folder)}", file=sys.stderr)
        return 130
    if not options.quiet:
        if not made:
            print("Nothing to do: every stage is done and nothing it depends on has changed.")
        print_findings(runner.folder)
    return 0


def shown(path: str | Path) -> str:
    """A path as short as it can be said from here."""
    if is_url(str(path)):
        return str(path)
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def print_findings(folder: RunFolder) -> None:
    found = folder.published("report")
    if found is not None:
        for line in (*found.facts["headline"], *found.facts.get("controls", ())):
            print(f"  {line}")
        print(f"Report: {shown(folder.fetched('report') / 'index.html')}")


def on_this_machine(config: RunConfig, command: str) -> RunConfig:
    if is_url(config.folder):
        raise UserError(f"folder: {command} works on local folders alone; add --folder and the name of one")
    return config


def calibrate_options() -> argparse.ArgumentParser:
    what = "Try ε, nβ, γ and the estimators on a few components; recommend some and how many draws, with reasons."
    parser = argparse.ArgumentParser(prog="balmer calibrate", add_help=False, description=what, allow_abbrev=False)
    parser.add_argument("target", metavar="RUN.yaml", help="run file or run folder")
    parser.add_argument("--write", action="store_true", help="put the recommended values into the run file")
    parser.add_argument("--quiet", action="store_true", help="say nothing but mistakes")
    return parser


def command_calibrate(arguments: Sequence[str]) -> int:
    options = calibrate_options()
    if not arguments or "--help" in arguments or "-h" in arguments:
        return show_run_help(options, "--calibrate.steps 80")
    known, flags = options.parse_known_args(list(arguments))
    config = on_this_machine(read_run(known.target, flags), "balmer calibrate")

    from balmer.calibrating.allocation import current_values
    from balmer.calibrating.command import FOLDER, calibrate
    from balmer.calibrating.edit import set_values, with_values

    run_file = find_run_file(known.target)
    if known.write:  # before the work, so that it is not for nothing
        with_values(run_file, current_values(config))
    found, lines = calibrate(config, for_stream(known.quiet))
    if found and known.write:
        set_values(run_file, found)
        lines.append(f"Written into {shown(run_file)}")
    if not known.quiet:
        print("\n".join(lines))
        print(f"Figure: {shown(Path(config.folder) / FOLDER / 'calibration.html')}")
    return 0 if found else 1


def command_plan(arguments: Sequence[str]) -> int:
    from balmer.planning.options import options

    if not arguments or "--help" in arguments or "-h" in arguments:
        return show_run_help(options(), "--corpus.truth_contexts 5000")
    known, flags = options().parse_known_args(list(arguments))
    from balmer.planning.command import carry_out

    return carry_out(read_run(known.target, flags), known, for_stream(known.quiet))


def command_status(arguments: Sequence[str]) -> int:
    from balmer.status import print_status

    parser = argparse.ArgumentParser(prog="balmer status", description="What is done, what is stale and why.")
    parser.add_argument("target", metavar="RUN", help="run folder or run file")
    known, flags = parser.parse_known_args(list(arguments))
    print_status(read_run(known.target, flags))
    return 0


def report_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="balmer report", description="Build the report of a run again.")
    parser.add_argument("target", metavar="RUN", help="run folder or run file")
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    parser.add_argument("--serve", action="store_true", help="serve it on 127.0.0.1, for a machine without a screen")
    parser.add_argument("--port", type=int, default=8000, help="of --serve; 0 takes a free one")
    parser.add_argument("--compare", metavar="OTHER", help="run folder over the same contexts to put beside this one")
    parser.add_argument("--label-with", metavar="URL", help="OpenAI-compatible endpoint that writes labels")
    parser.add_argument("--label-model", metavar="NAME", default="", help="the model it shall use")
    parser.add_argument("--label-clusters", metavar="N", type=int, default=100, help="how many, the largest first")
    parser.add_argument("--quiet", action="store_true", help="say nothing but mistakes")
    return parser


def command_report(arguments: Sequence[str]) -> int:
    from balmer.remote import open_folder

    known, flags = report_options().parse_known_args(list(arguments))
    if known.compare and is_url(known.compare):
        raise UserError(f"--compare: {known.compare} is no local folder; name one")
    if known.compare:
        flags += ["--report.compare", os.path.abspath(known.compare)]
    if known.label_with:
        flags += ["--report.labels", str(label_run(known, open_folder(read_run(known.target, flags))))]
    config = read_run(known.target, flags)
    folder = open_folder(config)
    if is_url(config.folder) and not [flag for flag in flags if flag.startswith("--report.")]:
        status = 0  # to build it again, everything would have to be fetched
        print_findings(folder)
    else:
        namespace = argparse.Namespace(first="report", last="report", overwrite=False, quiet=known.quiet)
        status = carry_out(config, namespace)
    if status == 0 and known.open:
        import webbrowser

        webbrowser.open((folder.fetched("report") / "index.html").as_uri())
    if status == 0 and known.serve:
        from balmer.serve import serve

        serve(folder.fetched("report"), known.port)
    return status


def label_run(options: argparse.Namespace, folder: RunFolder) -> Path:
    """Let the endpoint label the largest clusters; the table is kept beside the stages."""
    from cluster.report.endpoint import Endpoint
    from cluster.report.inputs import REQUIRED, open_inputs
    from cluster.report.labelling import write_labels
    from scale.store import write_table

    endpoint = Endpoint(options.label_with, options.label_model)
    if not all(folder.published(stage) for stage in REQUIRED):
        raise UserError(f"{folder.name} has no clusters to label yet; give balmer run first")
    inputs = open_inputs({stage: folder.fetched(stage) for stage in REQUIRED})
    with for_stream(options.quiet).task("labels", total=options.label_clusters) as task:
        table = write_labels(inputs, endpoint.ask, endpoint.model, options.label_clusters, 0, task.advance)
    path = (folder.path / "labels" / "labels.parquet").absolute()
    write_table(path, table)
    return path


def command_doctor(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="balmer doctor", description="What this machine can do.")
    parser.add_argument(
        "target", metavar="RUN.yaml", nargs="?", help="run file whose needs are compared with the machine"
    )
    known, flags = parser.parse_known_args(list(arguments))
    if flags and not known.target:
        raise UserError(f"{flags[0]}: a setting of a run file; name the run file too")

    from balmer.doctor import print_doctor

    return print_doctor(read_run(known.target, flags) if known.target else None)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": command_demo,
    "run": command_run,
    "plan": command_plan,
    "calibrate": command_calibrate,
    "controls": command_controls,
    "status": command_status,
    "report": command_report,
    "doctor": command_doctor,
}


def dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(stages=", ".join(NAMES)), end="")
        return 0
    if arguments[0] == "--version":
        from balmer.folder import commit, installed_version

        print(f"balmer {installed_version('balmer')}, commit {commit()}")
        return 0
    if arguments[0] not in COMMANDS:
        raise UserError(f"{arguments[0]!r} is not a command; the commands are {', '.join(COMMANDS)}")
    return COMMANDS[arguments[0]](arguments[1:])


def explain_system(error: OSError) -> str | None:
    """One line for the mistakes that the operating system finds, or None if it is not one of them."""
    place = error.filename or "the run folder"
    if error.errno in NO_ROOM:
        return f"no space left to write {place}; free some and give the same command again, finished work is kept"
    if error.errno in NO_RIGHT:
        if os.path.isfile(place) and not os.access(place, os.R_OK):
            return f"no permission to read {place}; change its rights or name another file"
        return f"no permission to write {place}; change its rights or name another folder"
    return None


def share_cores() -> None:
    """Let OpenMP's threads sleep while they wait for one another, unless the user says otherwise.

    Spinning gains nothing measurable on an idle machine and costs a factor of three on a busy one. The library reads
    this once, when it is loaded, which is later.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def reader_is_gone() -> bool:
    """Whether standard output goes to a program that has ended, as `head` does when it has seen enough."""
    watch = select.poll()
    watch.register(sys.stdout, select.POLLOUT)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be written at the exit
    return gone


def main(arguments: Sequence[str] | None = None) -> int:
    share_cores()
    try:
        status = dispatch(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        return fail(str(error))
    except SetAsideError as error:
        return fail(str(error), status=1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return 1
        line = explain_system(error)
        if line is None:
            raise
        return fail(line)
    except KeyboardInterrupt:
        print("\nbalmer: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
