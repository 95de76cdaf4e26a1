"""Bring your own: images for a learner, a folder as a data set, a run that somebody sent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from app.images import images
from app.shell import folders, html, picker, safety, state, ways
from app.shell.store import Opened, runs_folder
from app.views.bring_your_own import own, uploads
from cillab.core.errors import CillabError, one_line

_KEPT = "own-images"  # in the session: files that passed the checks, so that they outlive a change of page
_MOST_STEPS = 12  # states asked
Files = list[tuple[str, bytes]]
Answers = Mapping[int, Mapping[str, own.Said]]  # step -> digest -> what it said


def refusal(title: str, *lines: str) -> None:
    """What was not taken, a line each."""
    body = "".join(f"<p>{html.safe(line)}</p>" for line in lines[:10])
    more = f"<p>and {len(lines) - 10} more</p>" if len(lines) > 10 else ""
    html.refused(title, f"{body}{more}")


def show_images() -> None:
    """Upload images and follow the answers to them through the tasks of a run."""
    run, _, columns = picker.pick(extra=1)
    if run is None:
        return
    picker.badge(run)
    if not run.run.checkpoints:
        html.empty("This run cannot be asked", "It kept no checkpoint. Choose a run that did, such as the demo of min.")
        return
    files = _sent()
    if not files:
        return
    st.toggle("Rebuild the learner and ask it", key="live", **state.bound())
    if not st.session_state.get("live"):
        html.note(own.expected(run))
        cells = [f"<figure>{_picture(content, name)}</figure>" for name, content in files]
        html.show(f'<div class="ci-own">{"".join(cells)}</div>')
        return
    asker = own.load(run)
    if isinstance(asker, str):
        html.empty("The learner cannot be rebuilt here", asker)
    if not isinstance(asker, own.Asker):
        return
    steps, step = _steps(run, columns[0])
    try:
        with st.spinner("Asking it …"):
            said = {i: own.ask(run, asker, i, files) for i in steps}
    except CillabError as error:
        html.empty("The learner could not answer", one_line(error))
        return
    _all(run, files, step, said)
    _one(run, asker, files, step, said)


def _sent() -> Files:
    """The files that passed the checks; those of before, when the page is opened again."""
    sent = st.file_uploader(
        "Images",
        uploads.SUFFIXES,
        accept_multiple_files=True,
        key="own-files",
        max_upload_size=uploads.IMAGE_BYTES // 2**20,
    )
    html.note(
        f"1 to {uploads.MOST_IMAGES} images of up to {uploads.IMAGE_BYTES // 2**20} MB. They stay in the memory of "
        "this server and are written nowhere."
    )
    if sent:
        try:
            st.session_state[_KEPT], refused = uploads.images(sent)
        except CillabError as error:
            st.session_state[_KEPT] = []
            refusal("Not taken", one_line(error))
            return []
        if refused:
            refusal(f"{len(refused)} of {len(sent)} not taken", *refused)
    return st.session_state.get(_KEPT, [])


def _steps(run: Opened, column: Any) -> tuple[list[int], int]:
    """The states that will be asked, evenly over those kept, and the one that is shown large."""
    kept = [i for i, s in enumerate(run.snapshots) if s.task in run.run.checkpoints and "e" not in s.id]
    even = np.linspace(0, len(kept) - 1, min(len(kept), _MOST_STEPS)).round().astype(int)
    steps = [kept[i] for i in np.unique(even)]
    if len(steps) == 1:
        return steps, steps[0]
    with column:
        step = st.select_slider(
            "After task",
            steps,
            steps[-1],
            key=f"own-step-{run.key}",
            format_func=lambda i: str(run.snapshots[i].task + 1),
        )
    return steps, int(step)


def _picture(content: bytes, name: str, side: int = 160) -> str:
    return f'<img src="{images.data_url(uploads.square(content, side))}" alt="{html.safe(name)}">'


def _all(run: Opened, files: Files, step: int, said: Answers) -> None:
    """Every image with its answer at one step."""
    st.header(f"Answers after task {run.snapshots[step].task + 1}", anchor=False)
    cells = []
    for name, content in files:
        one = said[step][own.digest(content)]
        second = "" if one.second is None else f"ahead of “{run.run.info.name_of(one.second)}”"
        cells.append(
            f"<figure>{_picture(content, name)}<figcaption>{html.safe(run.run.info.name_of(one.answer))}"
            f"<small>{html.safe(second)}</small><small>{html.safe(name)}</small></figcaption></figure>"
        )
    html.show(f'<div class="ci-own">{"".join(cells)}</div>', "ci-cams")
    html.note(
        "A learner can only answer with a class it has learnt: an image of anything else gets the most similar one."
    )


def _one(run: Opened, asker: own.Asker, files: Files, step: int, said: Answers) -> None:
    """One image through all states: what it is taken for, and what speaks for that."""
    names = {own.digest(content): name for name, content in files}
    st.header("One image through the tasks", anchor=False)
    key = st.selectbox("Image", list(names), format_func=names.__getitem__, key="own-one")
    content = next(content for _, content in files if own.digest(content) == key)
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        _strip(run, own.crop(asker, content, names[key], 128), key, step, said)
    with right:
        _nearest(run, said[step][key])


def _strip(run: Opened, picture: np.ndarray, key: str, step: int, said: Answers) -> None:
    top = max(float(by[key].cam.max()) for by in said.values())
    cells = []
    for i, by in said.items():
        one = by[key]
        url = images.overlay_url(picture, one.cam / max(top, 1e-12), 128)
        words = f"Grad-CAM after task {run.snapshots[i].task + 1}, for {run.run.info.name_of(one.answer)}"
        cells.append(
            f'<figure class="{"now" if i == step else ""}"><img src="{url}" alt="{html.safe(words)}">'
            f"<figcaption>task {run.snapshots[i].task + 1}<b>{html.safe(run.run.info.name_of(one.answer))}</b>"
            f"<small>ahead by {html.number(one.margin, 2)}</small></figcaption></figure>"
        )
    html.show(f'<div class="ci-own ci-strip">{"".join(cells)}</div>', "ci-cams")
    html.note(
        "What speaks for the answer, on one scale over the tasks; under it by how much its score leads the next one. "
        "The picture is the part of the image that the learner sees."
    )
    if len(said) == 1:
        html.note("This run kept the state after one task only. A run with all its checkpoints shows all of them.")


def _nearest(run: Opened, one: own.Said) -> None:
    """Classes whose means are nearest, whatever the head says."""
    st.subheader("Nearest class means", anchor=False)
    if not one.nearest:
        html.note("The recorded means have another width than the features of this learner.")
        return
    rows = "".join(
        f"<div><span>{html.safe(run.run.info.name_of(c))}</span>"
        f'<i><u style="width:{100 * max(v, 0):.0f}%"></u></i><b>{v:.2f}</b></div>'
        for c, v in one.nearest
    )
    html.show(f'<div class="ci-near">{rows}</div>')
    html.note("Cosine between the image and the mean of each class, both seen from the average of all means.")


def show_data() -> None:
    """Register a folder below the declared root, or forget one."""
    root = safety.data_root()
    if root is None:
        html.empty(
            "No data folder is declared",
            "Start the app with CILLAB_DATA=FOLDER: folders below it can then be registered here, and no others.",
        )
        return
    if said := st.session_state.pop("own-said", ""):
        refusal("Not registered", said)
    known, found = folders.registered(), folders.candidates()
    html.show(f"<p>Folders below <code>{html.safe(root)}</code> with one folder of images per class.</p>", "ci-note")
    new = [name for name in found if name not in known]
    if new:
        name = st.selectbox("Folder", new, key="own-folder")
        try:
            facts = folders.describe(name)
        except CillabError as error:
            refusal("Not a data set", one_line(error))
        else:
            _folder_facts(facts)
            st.button("Register", key="own-register", type="primary", on_click=_register, args=(name,))
    elif not known:
        html.empty("No such folder there", f"Wanted: {root}/DATASET/CLASS/IMAGE, or train/ and test/ in between.")
    for name in known:
        left, middle, right = st.columns([4, 1, 1], vertical_alignment="center")
        left.markdown(f"**{html.markdown(name)}**")
        with middle:
            if st.button("Train on it", key=f"train-{name}", width="stretch"):
                ways.go("train", **{"spec-data": f"folder:{known[name]}"})
        with right:
            st.button("Forget", key=f"forget-{name}", on_click=folders.forget, args=(name,), width="stretch")


def _folder_facts(facts: folders.Described) -> None:
    split = "80 / 20, drawn by the seed" if facts.test is None else f"as divided, test in {facts.test}/"
    count = f"{facts.images:,}" if facts.images <= folders.COUNTED else f"more than {folders.COUNTED:,}"
    html.show(
        html.facts([("Classes", str(facts.classes), ""), ("Images", count, ""), ("Train and test", split, "")], "small")
    )
    if facts.passed:
        html.note(f"Passed over: {facts.passed}.")


def _register(name: str) -> None:
    try:
        folders.register(name)
    except (CillabError, OSError) as error:
        st.session_state["own-said"] = one_line(error)


def show_run() -> None:
    """Unpack a run folder that somebody sent."""
    sent = st.file_uploader("A zip of one run folder", "zip", key="own-zip", max_upload_size=uploads.ZIP_BYTES // 2**20)
    html.note(
        f"Up to {uploads.ZIP_BYTES // 2**20} MB. Only the files of a run are unpacked, into {runs_folder()}; nothing "
        "in them is executed."
    )
    if sent is None:
        return
    name = st.text_input("Name", uploads.free_name(sent.name), max_chars=80, key=f"own-name-{sent.name}")
    if st.button("Unpack and open", key="own-unpack", type="primary"):
        try:
            uploads.unpack_run(sent.getvalue(), name)
        except (CillabError, OSError) as error:
            refusal("Not taken", one_line(error))
            return
        ways.go("step_through", run=name, step=None)
