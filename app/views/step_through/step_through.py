"""Step through: one or two runs, step by step, in one fixed plane, with every measure of the step beside it."""

from app.views.step_through import cockpit

runs, kind = cockpit.bar()
if runs:
    cockpit.stage(runs, kind)
