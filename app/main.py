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

from app.ui import safety, server, theme, tour, ways  # noqa: E402

st.set_page_config(page_title="cillab", page_icon=theme.icon(), layout="wide")
theme.apply()
safety.must_be_local()
safety.limit_uploads()
server.one_thread_each()
page = st.navigation(
    {
        "": [st.Page("views/start.py", title="Start", icon=":material/home:", default=True)],
        "Look": [
            st.Page("views/step_through.py", title="Step through", icon=":material/play_circle:"),
            st.Page("views/explore.py", title="Explore points", icon=":material/lasso_select:"),
            st.Page("views/grad_cam.py", title="Grad-CAM", icon=":material/visibility:"),
        ],
        "Measure": [
            st.Page("views/collapse.py", title="Collapse", icon=":material/hub:"),
            st.Page("views/drift.py", title="Drift and forgetting", icon=":material/trending_down:"),
            st.Page("views/text_transport.py", title="Text and transport", icon=":material/compare_arrows:"),
            st.Page("views/method.py", title="Inside the method", icon=":material/category:"),
            st.Page("views/compare.py", title="Compare", icon=":material/leaderboard:"),
            st.Page("views/glossary.py", title="Glossary", icon=":material/menu_book:"),
        ],
        "Try": [
            st.Page("views/head_lab.py", title="Head lab", icon=":material/science:"),
            st.Page("views/toy_collapse.py", title="Toy collapse", icon=":material/change_history:"),
            st.Page("views/noise_mixing.py", title="Noise mixing", icon=":material/tune:"),
        ],
        "Run": [
            st.Page("views/train.py", title="Train", icon=":material/model_training:"),
            st.Page("views/bring_your_own.py", title="Bring your own", icon=":material/upload:"),
            st.Page("views/report.py", title="Report", icon=":material/description:"),
        ],
    },
    position="top",
)
ways.arrive(page.url_path)
tour.bar(page.url_path or "start")
page.run()
if st.context.headers:  # a browser, that is
    server.warm()
server.settle(page.url_path)
