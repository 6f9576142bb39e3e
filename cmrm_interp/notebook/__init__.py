"""For work in notebooks: answers side by side, an explorer with sliders, lessons put where one works."""

from cmrm_interp.notebook.exploring import Explorer, explore
from cmrm_interp.notebook.showing import Shown, show

__all__ = ["Explorer", "Shown", "explore", "show"]
