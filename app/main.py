"""Entry of the app: `streamlit run app/main.py`. It only routes; every page has a folder under `views/`.

The folder is not called `pages`: Streamlit would serve its files by itself, without this one, to the first visitor who
comes through a deep link.
"""

import sys
from pathlib import Path

import streamlit as st

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:  # Streamlit puts the folder of this file on the path, not the one above it
    sys.path.insert(0, str(_ROOT))

from app.shell import safety, server, theme, tour, ways  # noqa: E402

st.set_page_config(page_title="cillab", page_icon=theme.icon())  # the style sheet makes it wide
theme.apply()
safety.must_be_local()
safety.limit_uploads()
server.one_thread_each()
server.count_visitor()
page = st.navigation(
    {
        "": [st.Page(ways.file("start"), title="Start", icon=":material/home:", default=True)],
        "Look": [
            st.Page(ways.file("step_through"), title="Step through", icon=":material/play_circle:"),
            st.Page(ways.file("explore"), title="Explore points", icon=":material/lasso_select:"),
            st.Page(ways.file("grad_cam"), title="Grad-CAM", icon=":material/visibility:"),
        ],
        "Measure": [
            st.Page(ways.file("collapse"), title="Collapse", icon=":material/hub:"),
            st.Page(ways.file("drift"), title="Drift and forgetting", icon=":material/trending_down:"),
            st.Page(
                "views/text_transport/text_transport.py", title="Text and transport", icon=":material/compare_arrows:"
            ),
            st.Page(ways.file("method"), title="Inside the method", icon=":material/category:"),
            st.Page(ways.file("compare"), title="Compare", icon=":material/leaderboard:"),
            st.Page(ways.file("glossary"), title="Glossary", icon=":material/menu_book:"),
        ],
        "Try": [
            st.Page(ways.file("head_lab"), title="Head lab", icon=":material/science:"),
            st.Page(ways.file("toy_collapse"), title="Toy collapse", icon=":material/change_history:"),
            st.Page(ways.file("noise_mixing"), title="Noise mixing", icon=":material/tune:"),
        ],
        "Run": [
            st.Page(ways.file("train"), title="Train", icon=":material/model_training:"),
            st.Page(ways.file("bring_your_own"), title="Bring your own", icon=":material/upload:"),
            st.Page(ways.file("report"), title="Report", icon=":material/description:"),
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
