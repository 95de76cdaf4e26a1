"""Entry of the app: `streamlit run app/main.py`. It only routes; every page is a file under `views/`.

The folder is not called `pages`: Streamlit would serve its files by itself, without this one, to the first visitor who
comes through a deep link.
"""

import sys
from pathlib import Path

import streamlit as st

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:  # Streamlit puts the folder of this file on the path, not the one above it
    sys.path.insert(0, str(_ROOT))

from app.ui import theme  # noqa: E402

st.set_page_config(page_title="cillab", page_icon=theme.icon(), layout="wide")
theme.apply()
st.navigation(
    [
        st.Page("views/start.py", title="Start", icon=":material/home:", default=True),
        st.Page("views/step_through.py", title="Step through", icon=":material/play_circle:"),
        st.Page("views/noise_mixing.py", title="Noise mixing", icon=":material/tune:"),
        st.Page("views/grad_cam.py", title="Grad-CAM", icon=":material/visibility:"),
    ],
    position="top",
).run()
