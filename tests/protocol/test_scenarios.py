"""Every scenario: what it deals out, identities between them, and whole runs of the awkward ones."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cillab.core.errors import InvalidRequestError
from cillab.geometry.accuracy import forgetting_chaudhry
from cillab.lab import Lab
from cillab.protocol import scenarios
from cillab.runs import Run
from cillab.streams.stream import Stream, make_stream
from cillab.streams.union import Union
from tests.lab.fakes import Line, Tiny
from tests.streams.worlds import array_source

SOURCE = array_source(classes=10, train=8, test=3)
ASKED = {
    "few-shot": {"base": 4, "way": 3, "shots": 2},
    "long-tail": {"imbalance": 0.2, "split": "B0-Inc5"},
    "online": {"every": 7, "split": "B0-Inc5"},
    "si-blurry": {"tasks": 3, "every": 9, "blur": 0.4},
    "task-free": {"every": 9, "width": 0.1},
    "revisit": {"rounds": 3, "split": "B0-Inc4"},
    "class-incremental": {"split": "B0-Inc4"},
}


def deal(name: str, **more: object) -> Stream:
    return make_stream(SOURCE, scenario=name, **{**ASKED.get(name, {}), **more})


def rows_of(stream: Stream) -> list[np.ndarray]:
    return [plan.train for plan in stream.plans]


@pytest.mark.parametrize("name", [*scenarios])
def test_every_scenario_tests_each_class_once_and_shows_no_image_twice(name: str) -> None:
    stream = deal(name)
    assert sorted(stream.order) == list(range(10)) and len(set(stream.order)) == 10
    shown = np.concatenate(rows_of(stream))
    assert len(set(shown.tolist())) == len(shown)
    tested = np.concatenate([plan.test for plan in stream.plans])
    assert sorted(tested.tolist()) == list(range(30))
    labels = SOURCE.labels("train")
    for plan, task in zip(stream.plans, stream, strict=True):
        assert set(labels[plan.train].tolist()) <= set(plan.classes) == set(task.classes)
        assert len(task) == 0 or set(task.data.labels.tolist()) == set(plan.classes)
        assert set(plan.back).isdisjoint(plan.brings)
    assert [len(stream[i].data) for i in range(len(stream))] == [len(rows) for rows in rows_of(stream)]
    assert deal(name).digest == stream.digest and sum(stream.train_images.values()) == len(shown)


@pytest.mark.parametrize("name", [*scenarios])
def test_a_slice_stands_on_its_own(name: str) -> None:
    stream = deal(name)
    for cut in (stream[: max(1, len(stream) // 2)], stream[len(stream) // 2 :]):
        if any(len(plan.train) for plan in cut.plans):
            brought = [c for classes in cut.classes for c in classes]
            assert set(brought) == {c for plan in cut.plans for c in plan.classes} and len(set(brought)) == len(brought)
            assert sorted(set(cut.test().labels.tolist())) == sorted(brought)


def same(one: Stream, two: Stream) -> None:
    assert one.digest == two.digest
    assert one.classes == two.classes


def test_few_shot_with_all_shots_is_class_incremental() -> None:
    plain = make_stream(SOURCE, "B4-Inc3", order="natural")
    same(deal("few-shot", base=4, way=3, shots=None), plain)
    same(deal("few-shot", base=4, way=3, shots=8), plain)


@pytest.mark.parametrize("disjoint", [0.0, 0.5, 1.0])
def test_si_blurry_without_blur_is_disjoint(disjoint: float) -> None:
    blurry = deal("si-blurry", blur=0.0, disjoint=disjoint, tasks=5, sizes="equal", every=None)
    same(blurry, make_stream(SOURCE, "B0-Inc2"))
    all_disjoint = deal("si-blurry", blur=0.9, disjoint=1.0, tasks=5, sizes="equal", every=None)
    same(all_disjoint, blurry)


def test_si_blurry_moves_the_share_that_was_asked_for() -> None:
    stream = deal("si-blurry", blur=0.25, disjoint=0.5, tasks=2, sizes="equal", every=None)
    home = {c: index for index, classes in enumerate((stream.order[:5], stream.order[5:])) for c in classes}
    assert len(stream) == 2
    strays = [
        label for index, rows in enumerate(rows_of(stream)) for label in SOURCE.labels("train")[rows].tolist()
        if home.get(label, index) != index
    ]  # fmt: skip
    plain = make_stream(SOURCE, "B0-Inc5")
    moved = {
        row for index, rows in enumerate(rows_of(stream)) for row in rows.tolist()
        if row not in set(plain.plans[index].train.tolist())
    }  # fmt: skip
    assert len(moved) == round(0.25 * 5 * 8) and len(set(SOURCE.labels("train")[list(moved)].tolist())) <= 5
    assert len(strays) <= len(moved)


def test_a_long_tail_of_imbalance_one_is_balanced() -> None:
    for profile in ("ordered", "shuffled", "labels"):
        same(deal("long-tail", imbalance=1.0, profile=profile), make_stream(SOURCE, "B0-Inc5"))


def test_an_ordered_tail_falls_as_classes_are_learnt_and_a_shuffled_one_does_not() -> None:
    ordered, shuffled = deal("long-tail"), deal("long-tail", profile="shuffled")
    counts = list(ordered.train_images.values())
    assert counts == sorted(counts, reverse=True) and sorted(shuffled.train_images.values()) == sorted(counts)
    assert list(shuffled.train_images.values()) != counts
    assert all(ordered.thirds[a] <= ordered.thirds[b] for a, b in pairwise(ordered.order))  # head, medium, tail


@pytest.mark.parametrize("split", ["all", "B0-Inc2", "B4-Inc3"])
def test_cross_domain_of_one_source_is_that_source(split: str) -> None:
    plain = make_stream(SOURCE, split, order="natural")
    same(deal("cross-domain", split=split), plain)


def test_cross_domain_keeps_domains_apart() -> None:
    two = Union([array_source(classes=4), array_source(classes=6)])
    assert two.class_names[:2] == ("kind 0 (random)", "kind 1 (random)") and two.class_names[-1] == "kind 5"
    stream = make_stream(two, scenario="cross-domain", order="pilot")
    assert [sorted(classes) for classes in stream.classes] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    images, labels = stream.train(1).images, stream.train(1).labels
    alone = array_source(classes=6)
    at = np.flatnonzero(alone.labels("train") == 2)
    np.testing.assert_array_equal(images[labels == 6].numpy(), alone.images("train", at))
    assert set(stream.test(0).labels.tolist()) == {0, 1, 2, 3} and stream.train(0).ids[0].startswith("0:")


def test_revisit_of_one_round_is_class_incremental_and_of_more_divides_the_images() -> None:
    plain = make_stream(SOURCE, "B0-Inc4")
    same(deal("revisit", rounds=1), plain)
    again = deal("revisit", rounds=2)
    assert [plan.classes for plan in again.plans[3:]] == [plan.classes for plan in plain.plans]
    assert again.classes[3:] == ((), (), ()) and all(len(plan.test) == 0 for plan in again.plans[3:])
    for k in range(3):
        both = np.concatenate([again.plans[k].train, again.plans[k + 3].train])
        assert sorted(both.tolist()) == sorted(plain.plans[k].train.tolist())


def test_online_of_everything_at_once_is_one_task_with_all_images() -> None:
    stream = deal("online", every=1000)
    assert len(stream) == 1 and sorted(rows_of(stream)[0].tolist()) == list(range(80))
    pieces = deal("online", every=7)
    assert [len(rows) for rows in rows_of(pieces)] == [7] * 11 + [3]
    first = set(SOURCE.labels("train")[np.concatenate(rows_of(pieces)[:5])].tolist())
    assert first <= set(pieces.order[:5])  # the first block of the split comes before the second


def test_task_free_of_no_width_is_class_after_class_and_of_some_width_mixes_neighbours() -> None:
    sharp = deal("task-free", width=0.0, every=8)
    assert [len(plan.classes) for plan in sharp.plans] == [1] * 10
    assert max(len(plan.classes) for plan in deal("task-free", width=0.2, every=8).plans) > 2


def test_shots_are_one_list_for_every_seed_and_order() -> None:
    def shots(**more: object) -> dict[int, list[int]]:
        stream = deal("few-shot", **more)
        labels = SOURCE.labels("train")
        rows = np.concatenate(rows_of(stream))
        return {c: sorted(rows[labels[rows] == c].tolist()) for c in (7, 8, 9)}

    assert shots(seed=1) == shots(seed=2) != shots(draw=1)
    assert shots(order=[3, 2, 1, 0, 9, 8, 7, 6, 5, 4], base=4) == shots()


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("few-shot", {"base": 11}, "base = 11, and the data have 10 classes"),
        ("si-blurry", {"tasks": 11}, "tasks = 11, and the data have 10 classes"),
        ("revisit", {"rounds": 9}, "rounds = 9, and class 'kind .' has 8 images"),
        ("si-blurry", {"blur": 1.5}, "blur = 1.5"),
        ("online", {"every": 0}, "every = 0"),
    ],
)
def test_what_the_data_cannot_give_is_one_clear_line(name: str, more: dict, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        deal(name, **more)


def test_digests_are_the_same_in_another_process() -> None:
    code = (
        "import json; from tests.protocol.test_scenarios import deal; from cillab.protocol import scenarios;"
        "print(json.dumps({name: deal(name).digest for name in scenarios}))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == {name: deal(name).digest for name in scenarios}


# Another value means that runs before and after cannot be compared, or that machines disagree.
FROZEN = {
    "all-at-once": "67beeff35498c30e9139592b178a11b850942e847e501f49924e55803f245699",
    "base-to-new": "dd3d5c02b4a0c310487c70ca62c34f9b7b8cf52d268b516a6c6422e685f75f70",
    "class-incremental": "993e8f4c03f3ed1ae379637cab4bc73011e8188855ee14dd097ebd244fc75596",
    "cross-domain": "67beeff35498c30e9139592b178a11b850942e847e501f49924e55803f245699",
    "few-shot": "9769b88bf57498d57cd12074361c3a4493c9135be3c9bd68c4a0dac08d65d3e5",
    "long-tail": "193a52fe6cc4304a8267bcc26652724cccef5ba65f7b0f4a521923e670cd8711",
    "online": "ce0b9ee4e4d4cde0518a98ad43583614403c24d04063a470312142383a44d8a5",
    "revisit": "dcab390e276f83c0709ea60394206827249a7bfa40336c676814553b4995f5f1",
    "si-blurry": "55b3d1e0a4788c225ff9dd7575760aa02380d25e7491c728dd7bb09587893897",
    "task-free": "ddb1fa4a040f57fb61e1f9b1941e388710b718ad3369cdbed1785778c2557b9a",
}
FOLDER = "47d8f3a10fc47f16ccd999039669e454aac833713e05d15c0263fa60c8ecda11"


@pytest.mark.parametrize("name", [*scenarios])
def test_digests_are_the_same_on_every_machine(name: str) -> None:
    assert deal(name).digest == FROZEN[name]


def test_the_digest_of_a_folder_is_the_same_on_every_machine(tmp_path: Path) -> None:
    assert make_stream(f"folder:{written_out(tmp_path)}", "B0-Inc1").digest == FOLDER


def written_out(root: Path) -> Path:
    """Images whose bytes are decided here and by no library."""
    for number, (kind, count) in enumerate((("ant", 5), ("Bee", 6), ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", 7))):
        (root / kind).mkdir()
        for k in range(count):
            pixels = bytes((number * 50 + k * 7 + i) % 256 for i in range(12))
            (root / kind / f"{k}.ppm").write_bytes(b"P6\n2 2\n255\n" + pixels)
    return root


def finished(path: Path, stream: Stream, learner: Tiny | None = None) -> Run:
    lab = Lab(stream, learner or Tiny(Line()), path, probe_points=10, train_probe_per_class=2)
    list(lab)
    return lab.run


@pytest.mark.parametrize("name", ["online", "si-blurry", "task-free", "revisit"])
def test_a_run_whose_classes_return(tmp_path: Path, name: str) -> None:
    stream = deal(name)
    run = finished(tmp_path / "r", stream)
    result, matrix = run.result, run.accuracy_matrix()
    assert result is not None and len(result.accuracy_seen) == len(stream)
    blank = [j for j, classes in enumerate(stream.classes) if not classes]
    assert blank and np.isnan(matrix[:, blank]).all()
    own = [j for j in range(len(stream)) if j not in blank]
    assert np.isfinite(matrix[-1, own]).all()
    weights = np.array([3 * len(stream.classes[j]) for j in own])
    assert result.a_last == pytest.approx(float((matrix[-1, own] * weights).sum() / weights.sum()))
    lower = [row[: t + 1].tolist() for t, row in enumerate(matrix)]
    assert result.forgetting_chaudhry == pytest.approx(forgetting_chaudhry(lower), nan_ok=True)
    assert run.info.returning == [list(plan.back) for plan in stream.plans]
    if name == "revisit":
        assert result.a_auc is None
    else:
        seen, at = np.array(result.accuracy_seen), np.cumsum([len(plan.train) for plan in stream.plans])
        area = ((seen[1:] + seen[:-1]) / 2 * np.diff(at)).sum() / (at[-1] - at[0])
        assert result.a_auc == pytest.approx(area)


def test_transfer_is_blank_for_learners_that_need_images(tmp_path: Path) -> None:
    two = Union([array_source(classes=3), array_source(classes=2)])
    result = finished(tmp_path / "r", make_stream(two, scenario="cross-domain")).result
    assert result is not None and result.transfer is None and result.mtil_avg is None
    assert result.mtil_last == pytest.approx(np.mean(result.accuracy_matrix[-1]))


def test_known_task_ids_count_within_the_domain_and_keep_rankings_apart(tmp_path: Path) -> None:
    two = Union([array_source(classes=3), array_source(classes=2)])
    run = finished(tmp_path / "r", make_stream(two, scenario="cross-domain", known=True))
    assert run.protocol.task_id_at_test is True
    assert run.result.mtil_last == pytest.approx(run.snapshot("t01")["accuracy/within_task"].mean())


@pytest.mark.parametrize(
    ("split", "undefined"),
    [("all", ("forgetting_chaudhry", "forgetting_pilot", "bwt_gem", "a_auc", "transfer", "harmonic")),
     ("B0-Inc5", ("a_auc", "transfer", "harmonic")), ("B0-Inc1", ("a_auc", "accuracy_tail"))],
)  # fmt: skip
def test_short_streams_and_tasks_of_one_class_are_blank_where_nothing_is_defined(
    tmp_path: Path, split: str, undefined: tuple[str, ...]
) -> None:
    run = finished(tmp_path / "r", make_stream(SOURCE, split))
    on_disk = json.loads((run.path / "result.json").read_text())
    assert all(on_disk[name] is None for name in undefined)
    assert np.isfinite(on_disk["a_last"]) and np.isfinite(on_disk["a_avg"])
    if split == "B0-Inc1":  # one class has no other to be told from: nothing about pairs is defined
        first = on_disk["nc"][0]
        assert all(first[f"train/{name}"] is None for name in ("nc1", "cdnv", "equiangular", "max_angle", "nc3"))
