"""Models from and to other places: Gymnasium's environments and files."""

from __future__ import annotations

from occlp.interop.files import load as load
from occlp.interop.files import save as save
from occlp.interop.gymnasium import from_gymnasium as from_gymnasium
from occlp.interop.names import read_model as read_model
from occlp.interop.names import read_states as read_states
