import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """The models here are too small to share; waiting for each other would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
