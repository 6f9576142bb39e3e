"""Data: suites of prompts from benchmarks' files and from the synthetic world of the model organism."""

from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.datasets.loaders.paper import PaperData, paper_data
from cmrm_interp.datasets.loading import load_suite
from cmrm_interp.datasets.manifest import Benchmark
from cmrm_interp.datasets.reading import Item, Loaded, Reading
from cmrm_interp.datasets.registry import Loader, benchmarks, loader
from cmrm_interp.datasets.splits import FRACTIONS, split
from cmrm_interp.datasets.suites import Suite, organism_anchors, organism_suites

__all__ = [
    "FRACTIONS",
    "Anchors",
    "Benchmark",
    "Item",
    "Loaded",
    "Loader",
    "PaperData",
    "Reading",
    "Suite",
    "benchmarks",
    "load_suite",
    "loader",
    "organism_anchors",
    "organism_suites",
    "paper_data",
    "split",
]
