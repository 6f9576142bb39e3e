"""Figures from tables and records, in one style: colour-blind safe, one paper column wide, drawn as vectors.

Every function takes a table (or records) and returns a matplotlib ``Figure`` that belongs to nobody else: a notebook
shows it once, ``save`` writes it. Colours are those of Okabe and Ito (2008), with a marker beside each, so that a grey
copy can be read, too.
"""

from cmrm_interp.plots.bars import rates
from cmrm_interp.plots.calibration import reliability
from cmrm_interp.plots.curves import lines
from cmrm_interp.plots.gallery import gallery
from cmrm_interp.plots.heat import heatmap
from cmrm_interp.plots.overlay import over_image, word_grid
from cmrm_interp.plots.pareto import pareto
from cmrm_interp.plots.points import scatter
from cmrm_interp.plots.style import COLUMN, MARKERS, PALETTE, VERDICTS, save

__all__ = [
    "COLUMN",
    "MARKERS",
    "PALETTE",
    "VERDICTS",
    "gallery",
    "heatmap",
    "lines",
    "over_image",
    "pareto",
    "rates",
    "reliability",
    "save",
    "scatter",
    "word_grid",
]
