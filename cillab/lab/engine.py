"""Lab: steps a learner over a stream, looks at it after every task, and writes the run folder."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from cillab.core import heap, processes
from cillab.core.contract import Learner, Progress
from cillab.core.errors import CancelledError, CillabError, InvalidRequestError, one_line
from cillab.geometry.collapse import Collapse
from cillab.lab import checkpoints
from cillab.lab.costs import Trainable
from cillab.lab.fork import Finished, continued, copied
from cillab.lab.prepare import backbone_of, check_scenario, info_of, prepare, spec_of
from cillab.lab.probe import Accuracy, Examiner
from cillab.lab.result import result_of
from cillab.lab.spec import RunSpec
from cillab.runs import Run, RunWriter, step_id
from cillab.runs.probe import has_probe
from cillab.runs.writer import must_be_free
from cillab.streams.stream import Stream

_LOG_S = 0.5  # between two rows of the training loss
_LISTEN_S = 0.05  # between two looks at the control folder
_WAIT_S = 0.1  # between two looks while paused


@dataclass(frozen=True, eq=False)
class Step:
    """One task learnt, looked at and saved."""

    task: int  # from 0
    id: str  # of the snapshot in the run folder
    classes: tuple[int, ...]  # that this task brought
    accuracy: Accuracy
    collapse: Collapse  # of training features, seen classes
    collapse_test: Collapse
    seconds: dict[str, float]  # learn, probe


@final
class Lab:
    """One run. Iterate to make steps; stop and go on as you like; everything finished is on disk.

    A cancelled or failed task leaves the learner and the folder as they were after the task before it.
    """

    def __init__(
        self,
        stream: Stream,
        learner: Learner[Any],
        out: str | Path = "runs/first",
        *,
        spec: RunSpec | None = None,
        **options: Any,
    ) -> None:
        """Nothing is written before the first step.

        Args:
            stream: What comes, task by task.
            learner: A fresh learner on its backbone.
            out: The run folder; must not exist, or be empty.
            spec: The request that made `stream` and `learner`; worked out from them if not given.
            **options: Probe settings of RunSpec: probe_points, train_probe_per_class, cams, keep_checkpoints.

        Raises:
            RunError: the folder is not empty. InvalidRequestError: an option that RunSpec does not have.
        """
        must_be_free(Path(out))
        check_scenario(stream.scenario, type(learner))
        given = spec if spec is not None else spec_of(stream, learner)
        self._prepare(given.with_(**options, out=str(out)), stream, learner)

    def _prepare(self, spec: RunSpec, stream: Stream, learner: Learner[Any]) -> None:
        heap.keep()
        self.path, self.spec, self.learner = spec.folder(), spec, learner
        self.backbone = backbone_of(learner)
        self.stream = stream.on(self.backbone)
        self._examiner: Examiner | None = None
        self._writer: RunWriter | None = None
        self._done = self._learnt = 0  # tasks on disk; tasks in the learner (one more while the probe looks)
        self._trainable = Trainable()
        self._costs: dict[str, float] = {}  # of the task under way, by the names they get in metrics.jsonl
        self._spent: list[float] = []  # seconds of each task finished by this process
        self._probe_s = 0.0  # of the look under way
        self._listened = self._logged = 0.0

    @classmethod
    def from_spec(cls, spec: RunSpec) -> "Lab":
        """Make everything that a spec names. What cannot work is refused before anything is loaded.

        Raises:
            CillabError: one clear line.
        """
        must_be_free(spec.folder())
        ready = prepare(spec)
        return cls(ready.stream, ready.learner, spec.folder(), spec=ready.spec)

    @classmethod
    def resume(cls, path: str | Path, stream: Stream | None = None, learner: Learner[Any] | None = None) -> "Lab":
        """Go on with a run after its last finished task. Objects that a spec cannot name have to be given.

        Raises:
            RunError: no run there, it is being written, or what is needed to go on is gone.
        """
        return cls._going_on(continued(Path(path), stream, learner))

    @property
    def run(self) -> Run:
        """The run folder, to read."""
        return Run(self.path)

    @property
    def finished(self) -> int:
        """Number of tasks learnt, looked at and saved."""
        return self._done

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Step]:
        """Learn the tasks that are left."""
        for event in self.events():
            if isinstance(event, Step):
                yield event

    def begin(self) -> RunWriter:
        """Make the run folder now instead of with the first step.

        Raises:
            RunError: it is not empty any more, or the disk is full.
        """
        with self._telling():
            if self._writer is None:
                self._writer = RunWriter.create(self.path, info_of(self.spec, self.stream, self.learner))
            self._writer.claim()
            if self._examiner is None:
                self._examiner = self._make_examiner()
            if not has_probe(self.path):  # or its writer was killed right after run.json
                points = self._examiner.points
                self._writer.probe(
                    list(points.ids), points.labels.tolist(), self._examiner.tasks, self._examiner.sprites()
                )
        return self._writer

    def step(self) -> Step:
        """Learn one task.

        Raises:
            InvalidRequestError: all tasks are learnt.
        """
        if self._done >= len(self.stream):
            raise InvalidRequestError(f"All {len(self.stream)} tasks of {self.path} are learnt.")
        return next(iter(self))

    def events(self) -> Iterator[Progress | Step]:
        """The tasks that are left, with everything that happens on the way: for bars, notebooks and apps.

        Raises:
            CancelledError: asked to stop, through the control folder. Iterating again goes on.
        """
        if self._whole():
            return
        with self._open() as writer:
            if self._done == len(self.stream):  # a run that was killed between its last snapshot and its result
                self._finish(writer)
            while self._done < len(self.stream):
                index = self._done
                if self._learnt == index:
                    yield from self._learn(writer, index)
                yield (yield from self._look(writer, index))

    def fork(self, task: int, out: str | Path | None = None, *, learner: str | None = None, **changed: Any) -> "Lab":
        """Branch off after `task` with other hyper-parameters, or another learner whose parts have the same names.

        Raises:
            RunError: the state after `task` was not kept. InvalidRequestError: a parameter the learner does not have.
        """
        return self._going_on(copied(self.run, self.spec, self.stream, self.learner, task, out, learner, changed))

    @classmethod
    def _going_on(cls, found: Finished) -> "Lab":
        """The lab of a folder with finished tasks."""
        lab = cls.__new__(cls)
        lab._prepare(found.spec, found.stream, found.learner)
        lab._adopt(found.writer, found.done)
        return lab

    def _whole(self) -> bool:
        """Is everything on disk, up to the last word? Then nothing is left to write."""
        if self._done < len(self.stream) or not (self.path / "result.json").is_file():
            return False
        return self.run.status.state == "finished" and has_probe(self.path)

    def _adopt(self, writer: RunWriter | None, done: int) -> None:
        """Go on in a folder that holds `done` finished tasks; the learner is in the state after them."""
        run = Run(self.path)
        self._writer, self._examiner = writer, self._make_examiner()
        for index in range(done):
            self._examiner.memory.take(run.snapshot(step_id(index)), index)
        self._done = self._learnt = done

    def _make_examiner(self) -> Examiner:
        return Examiner(self.stream, self.spec.probe_points, self.spec.train_probe_per_class)

    @contextmanager
    def _open(self) -> Iterator[RunWriter]:
        """The writer, and a status that is true however this block ends."""
        with self._telling():
            writer = self.begin()
            if self._done < len(self.stream):
                writer.status(state="running", task=self._done, error=None)
            yield writer
            writer.release()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """However this block ends, status.json says so; and unless the caller may go on, others may write the run."""
        try:
            yield
        except GeneratorExit:  # the caller stopped asking; it may ask again
            if self._done < len(self.stream):
                self._say(state="paused")
            elif self._writer is not None:
                self._writer.release()
            raise
        except (KeyboardInterrupt, CancelledError) as error:
            self._say(state="cancelled", error=one_line(error) or "interrupted from the keyboard")
            raise
        except BaseException as error:
            line = one_line(error) if isinstance(error, CillabError) else f"{type(error).__name__}: {one_line(error)}"
            self._say(state="failed", error=line)
            raise

    def _say(self, **changes: Any) -> None:
        """Write a last status; a full disk here must not hide the error that ended the run."""
        if self._writer is None or self._writer.taken_over:
            return
        with suppress(CillabError, OSError):
            self._writer.status(**changes)
        if changes["state"] != "paused":
            self._writer.release()

    def _learn(self, writer: RunWriter, index: int) -> Iterator[Progress]:
        """Let the learner observe task `index`. Whatever ends this early, its `observe` is closed: it rolls back."""
        observing: Any = self.learner.observe(self.stream[index])
        costs: dict[str, float] = {"seconds/learn": 0.0}
        images: dict[str, int] = {}
        self._trainable.forget()
        try:
            while True:
                began = time.perf_counter()
                with self._trainable.watching():
                    progress = next(observing, None)
                spent = time.perf_counter() - began
                costs["seconds/learn"] += spent
                if progress is None:
                    break
                stage = f"seconds/learn/{progress.stage}"
                costs[stage] = costs.get(stage, 0.0) + spent
                images[progress.stage] = progress.done
                self._report(writer, index, progress)
                yield progress
        finally:
            observing.close()
        states = {name: part.state() for name, part in self.learner.parts().items()}
        tensors = (t for state in states.values() for t in state.tensors.values())
        facts = {name: state.meta for name, state in states.items()}
        processes.must_agree(tensors, facts, f"the state after task {index + 1}")
        costs["cost/images"] = sum(images.values())
        costs["cost/trainable_parameters"] = self._trainable.largest
        self._costs, self._learnt = costs, index + 1

    def _look(self, writer: RunWriter, index: int) -> Generator[Progress, None, Step]:
        """Look at the learner and save: checkpoint, scalars, and last the snapshot, which makes the task finished."""
        assert self._examiner is not None
        looking = self._examiner.look(self.learner, index, cams=self.spec.cams)
        look = yield from self._watched(writer, index, looking)
        step, keep, last = step_id(index), self.spec.keep_checkpoints, index + 1 == len(self.stream)
        if keep != "none" or not last:  # until it is finished, a run goes on from its last state
            checkpoints.save(writer.checkpoint_path(index), self.learner.parts())
        seconds = {"learn": self._costs.pop("seconds/learn"), "probe": self._probe_s}
        self._spent.append(sum(seconds.values()))
        named = {f"seconds/{name}": value for name, value in seconds.items()}
        writer.log(step, {**look.scalars, **named, **self._costs}, task=index)
        writer.snapshot(step, look.arrays, notes=look.notes)
        self._done = index + 1
        if last:
            self._finish(writer)
        if keep != "all" and index:
            writer.checkpoint_path(index - 1).unlink(missing_ok=True)
        classes = self.stream.classes[index]
        return Step(index, step, classes, look.accuracy, look.collapse, look.collapse_test, seconds)

    def _finish(self, writer: RunWriter) -> None:
        """Write the result, last of all."""
        assert self._examiner is not None
        run = Run(self.path)
        if run.result is None:
            writer.result(result_of(run, self.learner, self._examiner.points.images))
        writer.status(state="finished", task=self._done - 1, stage="", eta_s=0.0, error=None)

    def _watched(
        self, writer: RunWriter, index: int, looking: Generator[Progress, None, Any]
    ) -> Generator[Progress, None, Any]:
        """`yield from looking`, with heartbeat, obedience and a clock that stops while the caller has the word."""
        self._probe_s = 0.0
        try:
            while True:
                began = time.perf_counter()
                try:
                    progress = next(looking)
                except StopIteration as end:
                    return end.value
                finally:
                    self._probe_s += time.perf_counter() - began
                self._report(writer, index, progress)
                yield progress
        finally:
            looking.close()

    def _report(self, writer: RunWriter, index: int, progress: Progress) -> None:
        """Heartbeat, loss curve and control folder: throttled, so that it costs nothing beside a training step."""
        now = time.monotonic()
        values = {
            "stage": progress.stage, "epoch": progress.epoch, "epochs": progress.epochs, "step": progress.step,
            "done": progress.done, "total": progress.total, "loss": progress.loss,
            "images_per_second": progress.images_per_second,
        }  # fmt: skip
        if now - self._listened >= _LISTEN_S:
            self._listened = now
            self._obey(writer)
            writer.tick(state="running", task=index, eta_s=self._eta(index, progress), **values)
        if progress.loss is not None and now - self._logged >= _LOG_S:
            self._logged = now
            curve = {"train/loss": progress.loss}
            if progress.images_per_second is not None:
                curve["train/images_per_second"] = progress.images_per_second
            writer.log(step_id(index), curve, task=index, stage=progress.stage, epoch=progress.epoch, at=progress.step)

    def _obey(self, writer: RunWriter) -> None:
        while True:
            if writer.requested("cancel"):
                writer.clear("cancel")
                raise CancelledError(
                    f"Cancelled in task {self._done + 1}: `cillab resume {self.path}` goes on from there."
                )
            if not writer.requested("pause"):
                return
            writer.tick(state="paused")
            time.sleep(_WAIT_S)

    def _eta(self, index: int, progress: Progress) -> float | None:
        """Seconds to the end of this stage, plus the mean finished task for each one to come."""
        speed = progress.images_per_second
        if not speed:
            return None
        stage = max(0, progress.total - progress.done) / speed
        left = len(self.stream) - index - 1
        if not left:
            return stage
        return stage + left * sum(self._spent) / len(self._spent) if self._spent else None
