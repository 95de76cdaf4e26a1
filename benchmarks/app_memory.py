"""Memory of the server while one visitor goes through every page, part and run, again and again.

    python benchmarks/app_memory.py [--rounds 6] [--steps 4] [--large 100x10x2000] [--after 0]

The visitor is a session on the wire that waits for every answer, so an hour of looking takes minutes. A round opens
each part of each page of each run at `--steps` steps, other steps in each round: figures are new, and what is kept of
them has to be let go. JSON lines: memory after every round, then the summary with the peak. `--after` waits that many
seconds after the visitor has left and measures again (after three minutes the server lets go of what it kept).
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cillab.demo import demo_runs  # noqa: E402
from cillab.figures import PAGES, groups  # noqa: E402
from cillab.runs import Run  # noqa: E402
from tests.app.serving import serve  # noqa: E402
from tests.runs.synthetic import write_synthetic_run  # noqa: E402

from benchmarks.app_viewers import answer, resident_mb  # noqa: E402
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

OTHERS = ("step_through", "explore", "head_lab", "compare", "glossary", "toy_collapse", "report", "start")


def looks(run: str, step: int) -> list[tuple[str, dict[str, str]]]:
    """Every page and part of a run at a step, such that no page follows itself: it would not read its address again."""
    found = [[(page, {})] for page in OTHERS]
    for page, about in PAGES.items():
        parts = [group.part.label for group in groups(page).values()] if about.key else [""]
        found.append([(page, {about.key: part} if part else {}) for part in parts])
    turns = [one for turn in zip_longest(*found) for one in turn if one]
    here = {"run": run, "step": str(step)}
    apart = []
    for page, part in turns:
        if apart and apart[-1][0] == page:
            apart.append(("glossary", {}))
        apart.append((page, here | part))
    return apart


def opening(page: str, query: dict[str, str]) -> bytes:
    """What a browser says when it comes to an address."""
    message = BackMsg()
    message.rerun_script.query_string = urlencode(query)
    message.rerun_script.page_name = "" if page == "start" else page
    return message.SerializeToString()


def rounds(runs: dict[str, int], count: int, steps: int) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """For every round what is looked at; of each run other steps than in the round before."""
    for number in range(count):
        yield [
            look for at in range(steps) for run, length in runs.items()
            for look in looks(run, (number * steps + at) * 7 % length)
        ]  # fmt: skip


async def visit(url: str, pid: int, runs: dict[str, int], given: argparse.Namespace) -> tuple[list[float], list[str]]:
    """All rounds, each in a session of its own, as a page that is loaded anew."""
    memory, errors, address = [resident_mb(pid)], [], url.replace("http", "ws", 1) + "/_stcore/stream"
    for number, look in enumerate(rounds(runs, given.rounds, given.steps), 1):
        began = time.perf_counter()
        async with connect(address, subprotocols=["streamlit"], origin=url, max_size=None) as socket:  # pyright: ignore
            for page, query in look:
                await socket.send(opening(page, query))
                try:
                    await answer(socket, None)
                except RuntimeError as error:
                    errors.append(f"{page}?{urlencode(query)}: {error}"[:200])
                    break  # what this session still says would be taken for the answer to the next question
        memory.append(resident_mb(pid))
        line = {"round": number, "pages": len(look), "seconds": round(time.perf_counter() - began, 1)}
        print(json.dumps(line | {"server_mb": round(memory[-1])}), flush=True)
    return memory, errors


def status_mb(pid: int, name: str) -> float:
    """A line of what the system says of a process: VmHWM, the most it ever held; RssAnon, its own; RssFile, mapped."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(name))


def main() -> None:
    """Serve the demo runs and a large one, and look at everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="steps of each run that a round looks at")
    parser.add_argument("--large", default="100x10x2000", help="tasks x classes per task x probe points, or none")
    parser.add_argument("--after", type=float, default=0.0, help="seconds to wait when the visitor has left")
    given, pids = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as folder:
        runs = {f"demo-{name}": len(Run(path).steps) for name, path in demo_runs().items()}
        if given.large != "none":
            tasks, each, points = map(int, given.large.split("x"))
            large = write_synthetic_run(Path(folder) / "large", tasks, each, points, noise=False, cams=False)
            runs["large"] = len(Run(large).steps)
        with serve({"CILLAB_RUNS": folder}, pids) as url:
            memory, errors = asyncio.run(visit(url, pids[0], runs, given))
            line = {"errors": len(errors), "first_errors": errors[:3], "start_mb": round(memory[0])}
            line |= {"rounds_mb": [round(one) for one in memory[1:]], "peak_mb": round(status_mb(pids[0], "VmHWM"))}
            if given.after:
                time.sleep(given.after)
                line["afterwards_mb"] = round(resident_mb(pids[0]))
                line |= {name: round(status_mb(pids[0], name)) for name in ("RssAnon", "RssFile")}
            print(json.dumps(line | {"load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
