"""For `pytest --nbmake notebooks` (`make notebooks`): nbclient must not talk to the kernel while it waits for it.

What `interact` prints is sent back to the kernel as state of a widget, past asyncio, through the socket on which the end
of the cell is awaited. If the reply arrives in that moment the wake-up is consumed, and the cell lasts until its timeout
(nbclient issue 312; measured on notebook 00: 4 of 8 runs). Nobody reads that state here, so it is kept and not sent.
"""

import nbclient.client
from nbclient.output_widget import OutputWidget


class SilentOutputWidget(OutputWidget):
    """An output widget that collects and does not tell."""

    def sync_state(self) -> None:
        pass


nbclient.client.OutputWidget = SilentOutputWidget
